"""Where a private model's accuracy goes: one row for each option that costs no epsilon, from several seeds.

    python benchmarks/private_options.py --text FILE --licence NAME [--train] [--seeds 0,1,2] [--runs DIR]
                                         [--only NAME] [--json]

Every row is the preset `private` with cohorts of 71 under a plain sum, at epsilon 10 unless it says otherwise, begun
with a start that `fedkeys pretrain` trained on the public text, and scored on the test people: fewer rounds, the
embedding frozen, a smaller model or one with more words and cells, more people a round. Without --train it prints the
commands, since all of them take an hour and more. Runs that are whole in DIR are not trained again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from privacy_price import TRAIN, Training, Try, fedkeys, keeps_runs, read_start, scored

_WIDE = ("model.vocabulary_size=5000", "model.embedding_size=64", "model.num_cells=128")
_NARROW = ("model.embedding_size=16", "model.num_cells=32")


@dataclass(frozen=True)
class Option:
    """A row.

    Attributes:
      start: the name of the start, and the settings of its model.
      rate: of the server.
      settings: as --set takes them, beside the start's.
      cohort: people of a round.
      side: of privacy_price.SIDES.
    """

    start: tuple[str, tuple[str, ...]]
    rate: float
    settings: tuple[str, ...] = ()
    cohort: int = 71
    side: str = "private"


SMALL, WIDE, NARROW = ("small", ()), ("wide", _WIDE), ("narrow", _NARROW)
FROZEN, FEW = ("model.frozen=embedding",), ("rounds.count=40",)  # fewer rounds, and so less noise in each
OPTIONS = {
    "120 rounds": Option(SMALL, 1.0),
    "120 rounds, a larger model": Option(WIDE, 1.0),
    "40 rounds": Option(SMALL, 1.0, FEW),
    "40 rounds, embedding frozen": Option(SMALL, 1.0, (*FEW, *FROZEN)),
    "40 rounds, a smaller model": Option(NARROW, 1.0, FEW),
    "40 rounds, a larger model": Option(WIDE, 1.0, FEW),
    "40 rounds, a larger model, embedding frozen": Option(WIDE, 1.0, (*FEW, *FROZEN)),
    "40 rounds, a larger model, twice the cohort": Option(WIDE, 1.0, FEW, cohort=142),
    "40 rounds, a larger model, epsilon 3": Option(WIDE, 1.0, (*FEW, "privacy.epsilon=3")),
    "40 rounds, a larger model, no noise": Option(WIDE, 1.0, FEW, side="no noise"),
}


@dataclass(frozen=True)
class Place:
    """Where starts and runs are kept, and what the starts are trained on."""

    runs: Path
    text: Path
    licence: str

    def start(self, option: Option) -> Path:
        """The folder of an option's start."""
        return self.runs / f"start-{option.start[0]}"

    def pretrain(self, option: Option) -> list[str]:
        """The command of an option's start."""
        settings = [part for one in option.start[1] for part in ("--set", one)]
        text = ["--text", str(self.text), "--licence", self.licence, "--epochs", "5", "--preset", "private"]
        return ["pretrain", "--out", str(self.start(option)), *text, *settings]

    def training(self, name: str, seed: int) -> tuple[Training, Path]:
        """A run of an option, and the folder of its runs."""
        option = OPTIONS[name]
        begins = f"model.start={self.start(option)}"
        both = (begins, *option.start[1], *option.settings)
        folder = self.runs / name.replace(",", "").replace(" ", "-")
        return Training(option.side, Try(3, option.rate), seed, both, cohort=option.cohort), folder


@click.command()
@click.option("--text", type=click.Path(path_type=Path, exists=True), required=True, help="The public text.")
@click.option("--licence", required=True, metavar="NAME", help="The text's licence, as `fedkeys pretrain` takes it.")
@TRAIN
@keeps_runs("runs/options")
@click.option("--seeds", default="0,1,2", show_default=True, help="Each seed draws other people.")
@click.option("--only", multiple=True, type=click.Choice(list(OPTIONS)), help="Rows; several times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(text: Path, licence: str, train: bool, runs: Path, seeds: str, only: tuple[str, ...], as_json: bool) -> None:
    """Compare the options."""
    place, numbers, names = Place(runs, text, licence), [int(seed) for seed in seeds.split(",")], only or tuple(OPTIONS)
    if not train:
        commands = [place.pretrain(OPTIONS[name]) for name in names]
        for name in names:
            commands += [one.command(folder) for one, folder in (place.training(name, seed) for seed in numbers)]
        for command in dict.fromkeys(map(" ".join, commands)):
            click.echo(f"fedkeys {command}")
        return
    rows = {}
    for name in names:
        start = place.start(OPTIONS[name])
        if not start.exists():
            fedkeys(*place.pretrain(OPTIONS[name]))
        runs_of = {seed: place.training(name, seed) for seed in numbers}
        scores = {seed: scored(one, folder) for seed, (one, folder) in runs_of.items()}
        rows[name] = {"start_alone": read_start(start).test.top1, "test": scores}
        if not as_json:
            click.echo(row_text(name, rows[name]["start_alone"], scores))
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())


def row_text(name: str, alone: float, scores: dict[int, dict[str, float]]) -> str:
    """Returns a row of the table in docs/privacy.md."""
    by_seed = " | ".join(f"{own['top1']:.2%} ({own['low']:.2%} to {own['high']:.2%})" for own in scores.values())
    means = {part: statistics.fmean(own[part] for own in scores.values()) for part in ("top1", "top3", "nats")}
    return f"| {name} | {alone:.2%} | {by_seed} | {means['top1']:.2%} | {means['top3']:.2%} | {means['nats']:.3f} |"


if __name__ == "__main__":
    main()

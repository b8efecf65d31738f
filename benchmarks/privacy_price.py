"""What differential privacy costs in accuracy: the best of as many tries with noise and without.

    python benchmarks/privacy_price.py [--train] [--runs DIR] [--seeds 0] [--start DIR] [--set NAME=VALUE] [--json]

Both sides are the preset `private` with cohorts of 71 under a plain sum: once as it is, once without noise at the same
clip norm. Each side gets the same tries of local epochs, server's learning rate and momentum, on the first seed. The
best by top-1 recall of the dev people is trained with every seed and scored on the test people. Without --train it
prints the tries as commands, since all of them take an hour and more. Runs that are whole in DIR are not trained again.

With --start both sides begin with a start of `fedkeys pretrain`, with one try of smaller steps, and what the start
reaches alone is printed. Where noisy counts chose its text, the private side has the epsilon that is left of the
preset's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import click
import msgspec

if TYPE_CHECKING:
    from orchestrator.run.pretrained import Pretrained

SIDES: dict[str, tuple[str, ...]] = {
    "private": (),
    "no noise": ("privacy.mechanism=none", "privacy.epsilon=0", "aggregation.clip_norm=2"),
}


@dataclass(frozen=True)
class Try:
    """Settings that cost no epsilon."""

    epochs: int
    server_rate: float
    momentum: float = 0.0

    @property
    def settings(self) -> tuple[str, ...]:
        """As --set takes them."""
        algorithm = ("server.algorithm=fedavgm", f"server.momentum={self.momentum:g}") if self.momentum else ()
        return (f"client.epochs={self.epochs}", f"server.learning_rate={self.server_rate:g}", *algorithm)


TRIES = (
    Try(1, 3.0),
    Try(3, 2.0),
    Try(3, 3.0),
    Try(1, 1.0, momentum=0.9),
    Try(3, 1.0, momentum=0.9),
)
START_TRIES = (Try(3, 1.0),)  # gentler than the preset: a start has less to learn, and as much noise on it


@dataclass(frozen=True)
class Training:
    """A run that the comparison needs.

    Attributes:
      both: settings of both sides, as --set takes them.
      start: folder of the start; None for none.
      cohort: people of a round.
    """

    side: str
    tried: Try
    seed: int
    both: tuple[str, ...]
    start: Optional[Path] = None
    cohort: int = 71

    def path(self, runs: Path) -> Path:
        """Its folder."""
        one, begun = self.tried, f"-from-{self.start.name}" if self.start else ""
        name = f"{self.side.replace(' ', '-')}-{one.epochs}-{one.server_rate:g}-{one.momentum:g}{begun}-seed{self.seed}"
        return runs / name

    @property
    def start_settings(self) -> tuple[str, ...]:
        """As --set takes them."""
        if self.start is None:
            return ()
        left = epsilon_left(self.start) if self.side == "private" else None
        return (f"model.start={self.start}", *([f"privacy.epsilon={left:.6g}"] if left else []))

    def command(self, runs: Path) -> list[str]:
        """The arguments of fedkeys."""
        settings = [
            part
            for one in (*SIDES[self.side], *self.tried.settings, *self.start_settings, *self.both)
            for part in ("--set", one)
        ]
        run = ["--run", str(self.path(runs)), "--resume", "--preset", "private", "--seed", str(self.seed)]
        return ["train", *run, "--cohort", str(self.cohort), "--aggregator", "plain", *settings]


def read_start(start: Path) -> Pretrained:
    """What `fedkeys pretrain` wrote."""
    from orchestrator.run.pretrained import read_pretrained

    return read_pretrained(start)[0]


def epsilon_left(start: Path) -> Optional[float]:
    """The epsilon with which a model and the counts that chose its start's text cost the preset's together.

    None if nobody's counts chose it. Gaussian releases add up in zCDP.
    """
    from orchestrator.privacy.accounting import Cost, noise_for
    from orchestrator.settings.presets import PRESETS

    chose = [text for text in read_start(start).texts if text.noise_multiplier]
    if not chose:
        return None
    total, delta = float(PRESETS["private"]["privacy.epsilon"]), chose[0].delta
    left = noise_for(total, delta) ** -2 - sum(text.noise_multiplier**-2 for text in chose)
    return Cost(left / 2).epsilon(delta)


def fedkeys(*arguments: str) -> None:
    """Runs a command, and stops at its mistake."""
    subprocess.run([sys.executable, "-m", "orchestrator.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def dev_top1(training: Training, runs: Path) -> Optional[float]:
    """The last evaluation on the dev people; None if the run is not whole yet."""
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(training.path(runs))
    if not folder.exists():
        return None
    rounds = folder.rounds()
    is_whole = len(rounds) == folder.config().rounds.count
    return rounds[-1].metrics["dev_top1"] if is_whole else None


def trained(training: Training, runs: Path) -> float:
    """As dev_top1, of a run that is trained now if it is not whole."""
    found = dev_top1(training, runs)
    if found is None:
        fedkeys(*training.command(runs))
        found = dev_top1(training, runs)
        assert found is not None
    return found


def scored(training: Training, runs: Path) -> dict[str, float]:
    """Recall with its 95 % interval over people and loss on the test people, the epsilon spent in all and its delta."""
    from orchestrator.evaluation.results import read_evaluation
    from orchestrator.privacy.ledger import epsilon_spent
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run
    from orchestrator.run.spent import spent_in_all

    path = training.path(runs)
    trained(training, runs)
    if read_evaluation(path) is None:
        fedkeys("evaluate", "--run", str(path))
    evaluation = read_evaluation(path)
    assert evaluation is not None
    model, config = evaluation.model, RunFolder(path).config()
    low, high = model.top1_interval or (model.top1, model.top1)
    total = spent_in_all(read_run(RunFolder(path)))
    figures = {"top1": model.top1, "low": low, "high": high, "top3": model.top3, "nats": model.loss_nats_per_token}
    epsilon = total.epsilon if total else epsilon_spent(path)
    return figures if epsilon is None else {**figures, "epsilon": epsilon, "delta": config.privacy.delta}


TRAIN = click.option("--train", is_flag=True, help="Train what is missing, and compare.")


def keeps_runs(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns the option --runs with a default."""
    folder = click.Path(path_type=Path)
    return click.option("--runs", type=folder, default=Path(default), show_default=True, help="Where runs are kept.")


@click.command()
@TRAIN
@keeps_runs("runs/price")
@click.option(
    "--seeds", default="0", show_default=True, help="Seeds of the best try, as 0,1,2; the first for all tries."
)
@click.option("--set", "both", multiple=True, metavar="NAME=VALUE", help="A setting of both sides; several times.")
@click.option("--start", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A start of both sides.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(train: bool, runs: Path, seeds: str, both: tuple[str, ...], start: Optional[Path], as_json: bool) -> None:
    """Compare the best of each side."""
    numbers, tried = [int(seed) for seed in seeds.split(",")], START_TRIES if start else TRIES
    tries = {side: [Training(side, one, numbers[0], both, start) for one in tried] for side in SIDES}
    if not train:
        for side in SIDES:
            for training in tries[side]:
                click.echo("fedkeys " + " ".join(training.command(runs)))
        return
    found = {side: {training.tried: trained(training, runs) for training in tries[side]} for side in SIDES}
    best = {side: max(own, key=lambda one: own[one]) for side, own in found.items()}
    scores = {
        side: {seed: scored(Training(side, best[side], seed, both, start), runs) for seed in numbers} for side in SIDES
    }
    alone = read_start(start) if start else None
    if as_json:
        rows = {side: [{**vars(one), "dev_top1": top1} for one, top1 in own.items()] for side, own in found.items()}
        result = {"tries": rows, "best": {side: vars(one) for side, one in best.items()}, "test": scores}
        click.echo(msgspec.json.encode({**result, "start": alone} if alone else result).decode())
        return
    if alone is not None:
        test, words = alone.test, f"{alone.tokens:,} words of public text"
        click.echo(
            f"the start alone, on the {test.clients} test people of its seed: top-1 {test.top1:.2%}, top-3 "
            f"{test.top3:.2%}, {test.loss_nats_per_token:.3f} nats a word; {words}, {alone.epochs} epochs"
        )
    show(found, best, scores)


def show(
    found: dict[str, dict[Try, float]], best: dict[str, Try], scores: dict[str, dict[int, dict[str, float]]]
) -> None:
    """Prints the tries of both sides, and the best of each on the test people."""
    tried = next(iter(found.values()))
    click.echo("what was tried on each side, top-1 on the dev people:")
    click.echo("  epochs  server rate  momentum  " + "  ".join(f"{side:>9}" for side in SIDES))
    for one in tried:
        figures = "  ".join(f"{found[side][one]:9.2%}" for side in SIDES)
        click.echo(f"  {one.epochs:6}  {one.server_rate:11g}  {one.momentum:8g}  {figures}")
    click.echo("the best of each side, on the test people:")
    for side, own in scores.items():
        means = {name: statistics.fmean(row[name] for row in own.values()) for name in next(iter(own.values()))}
        by_seed = ", ".join(
            f"seed {seed} {row['top1']:.2%}, {row['low']:.2%} to {row['high']:.2%}" for seed, row in own.items()
        )
        click.echo(
            f"  {side}: top-1 {means['top1']:.2%} ({by_seed}), "
            f"top-3 {means['top3']:.2%}, {means['nats']:.3f} nats a word; {' '.join(best[side].settings)}"
            + (f"; epsilon {means['epsilon']:.4g} at delta {means['delta']:.2g}" if "epsilon" in means else "")
        )


if __name__ == "__main__":
    main()

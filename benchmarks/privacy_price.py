"""What differential privacy costs in accuracy: the best of as many tries with noise and without.

    python benchmarks/privacy_price.py [--train] [--runs DIR] [--seeds 0] [--set NAME=VALUE] [--json]

Both sides are the preset `private` with cohorts of 71 under a plain sum: once as it is, once without noise at the same
clip norm. Each side gets the same tries of local epochs, server's learning rate and momentum, on the first seed. The
best by top-1 recall of the dev people is trained with every seed and scored on the test people. Without --train it
prints the tries as commands, since all of them take an hour and more. Runs that are whole in DIR are not trained again.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import click
import msgspec

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


@dataclass(frozen=True)
class Training:
    """A run that the comparison needs; `both`: settings of both sides, as --set takes them."""

    side: str
    tried: Try
    seed: int
    both: tuple[str, ...]

    def path(self, runs: Path) -> Path:
        """Its folder."""
        one = self.tried
        name = f"{self.side.replace(' ', '-')}-{one.epochs}-{one.server_rate:g}-{one.momentum:g}-seed{self.seed}"
        return runs / name

    def command(self, runs: Path) -> list[str]:
        """The arguments of fedkeys."""
        settings = [part for one in (*SIDES[self.side], *self.tried.settings, *self.both) for part in ("--set", one)]
        run = ["--run", str(self.path(runs)), "--resume", "--preset", "private", "--seed", str(self.seed)]
        return ["train", *run, "--cohort", "71", "--aggregator", "plain", *settings]


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
    """Recall with its 95 % interval over people and loss on the test people, the epsilon spent and its delta."""
    from orchestrator.evaluation.results import read_evaluation
    from orchestrator.privacy.ledger import epsilon_spent
    from orchestrator.run.folder import RunFolder

    path = training.path(runs)
    trained(training, runs)
    if read_evaluation(path) is None:
        fedkeys("evaluate", "--run", str(path))
    evaluation = read_evaluation(path)
    assert evaluation is not None
    model, config = evaluation.model, RunFolder(path).config()
    low, high = model.top1_interval or (model.top1, model.top1)
    figures = {"top1": model.top1, "low": low, "high": high, "top3": model.top3, "nats": model.loss_nats_per_token}
    epsilon = epsilon_spent(path)
    return figures if epsilon is None else {**figures, "epsilon": epsilon, "delta": config.privacy.delta}


@click.command()
@click.option("--train", is_flag=True, help="Train what is missing, and compare.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs/price"),
    show_default=True,
    help="Where runs are kept.",
)
@click.option(
    "--seeds", default="0", show_default=True, help="Seeds of the best try, as 0,1,2; the first for all tries."
)
@click.option("--set", "both", multiple=True, metavar="NAME=VALUE", help="A setting of both sides; several times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(train: bool, runs: Path, seeds: str, both: tuple[str, ...], as_json: bool) -> None:
    """Compare the best of each side."""
    numbers = [int(seed) for seed in seeds.split(",")]
    tries = {side: [Training(side, one, numbers[0], both) for one in TRIES] for side in SIDES}
    if not train:
        for side in SIDES:
            for training in tries[side]:
                click.echo("fedkeys " + " ".join(training.command(runs)))
        return
    found = {side: {training.tried: trained(training, runs) for training in tries[side]} for side in SIDES}
    best = {side: max(own, key=lambda one: own[one]) for side, own in found.items()}
    scores = {side: {seed: scored(Training(side, best[side], seed, both), runs) for seed in numbers} for side in SIDES}
    if as_json:
        rows = {side: [{**vars(one), "dev_top1": top1} for one, top1 in own.items()] for side, own in found.items()}
        result = {"tries": rows, "best": {side: vars(one) for side, one in best.items()}, "test": scores}
        click.echo(msgspec.json.encode(result).decode())
        return
    show(found, best, scores)


def show(
    found: dict[str, dict[Try, float]], best: dict[str, Try], scores: dict[str, dict[int, dict[str, float]]]
) -> None:
    """Prints the tries of both sides, and the best of each on the test people."""
    click.echo(f"{len(TRIES)} tries a side, top-1 on the dev people:")
    click.echo("  epochs  server rate  momentum  " + "  ".join(f"{side:>9}" for side in SIDES))
    for one in TRIES:
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

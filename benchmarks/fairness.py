"""Two figures of fairness: false alarms of its permutation test, and the cost of its secure sums."""

from __future__ import annotations

import json
import time

import click
import numpy as np

from models.corpus import ClientId
from orchestrator.fairness import figures
from orchestrator.fairness.group_sums import Secure, few_drop_out
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.settings.sections import AggregationConfig

# {who types how much: (people, fewest and most words that one of them typed) of each group}
CASES = {
    "the small group types little": ((12, (20, 40)), (40, (100, 400)), (79, (400, 3000))),
    "all type alike": ((12, (100, 400)), (40, (100, 400)), (79, (100, 400))),
    "the large group types little": ((12, (400, 3000)), (40, (100, 400)), (79, (20, 40))),
}


@click.command()
@click.option("--sets", default=1500, show_default=True, help="Data sets of each case.")
@click.option("--permutations", default=499, show_default=True, help="Shuffles of each data set.")
@click.option("--people", type=click.IntRange(3), help="Time a secure sum over so many people instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on standard output.")
def main(sets: int, permutations: int, people: int | None, as_json: bool) -> None:
    """Simulate groups of 12, 40 and 79 people of equal recall, and count what is below 5 and 2.5 %."""
    rows = _false_alarms(sets, permutations) if people is None else _cost_of_sums(people)
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        if people is None:
            click.echo(f"{row['case']:30}  {row['at_0.05']:.1%} at 5 %  {row['at_0.025']:.1%} at 2.5 %")
        else:
            what = f"{row['dropout_share']:g} may vanish, {row['neighbours']} neighbours"
            click.echo(f"{what:32}  {row['cpu_s']:6.1f} s of CPU, {rows[0]['cpu_s'] / row['cpu_s']:.1f} times as fast")


def _false_alarms(sets: int, permutations: int) -> list[dict]:
    figures.NUM_PERMUTATIONS = permutations
    rows = []
    for name, groups in CASES.items():
        rng = np.random.default_rng(0)
        p_values = np.array([figures.permutation_test(_histograms(groups, rng), seed=i).p_value for i in range(sets)])
        rows.append({"case": name, "sets": sets, **{f"at_{level}": _share(p_values, level) for level in (0.05, 0.025)}})
    return rows


def _cost_of_sums(people: int) -> list[dict]:
    """One sum of short vectors under secure aggregation, as a round of training would do it and as fairness does."""
    rng, as_trained = np.random.default_rng(0), AggregationConfig(aggregator="secagg")
    vectors = {ClientId(f"person {i}"): rng.integers(0, 1000, 500) for i in range(people)}
    rows, totals = [], []
    for aggregation in (as_trained, few_drop_out(as_trained)):
        started = time.process_time()
        totals.append(Secure(build_aggregator(aggregation), 10).total(vectors, 1))
        cpu_s = round(time.process_time() - started, 2)
        neighbours = SUMS["secagg"].num_neighbours(aggregation, people)
        rows.append({"dropout_share": aggregation.dropout_share, "neighbours": neighbours, "cpu_s": cpu_s})
    assert all(np.array_equal(total, sum(vectors.values())) for total in totals)
    return rows


def _share(p_values: np.ndarray, level: float) -> float:
    return float((p_values <= level).mean())


def _histograms(groups: tuple[tuple[int, tuple[int, int]], ...], rng: np.random.Generator) -> np.ndarray:
    """People's recalls by group, int64 [groups, bins]; everybody's recall is drawn from one distribution."""
    histograms = np.zeros((len(groups), figures.BINS), np.int64)
    for group, (size, words) in enumerate(groups):
        typed = rng.integers(*words, size, endpoint=True)
        recalls = rng.binomial(typed, rng.beta(36, 164, size)) / typed
        np.add.at(histograms[group], np.minimum(figures.BINS * recalls, figures.BINS - 1).astype(int), 1)
    return histograms


if __name__ == "__main__":
    main()

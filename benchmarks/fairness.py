"""How often the permutation test of fairness calls a gap real between groups that do not differ."""

from __future__ import annotations

import json

import click
import numpy as np

from orchestrator.fairness import figures

# {who types how much: (people, fewest and most words that one of them typed) of each group}
CASES = {
    "the small group types little": ((12, (20, 40)), (40, (100, 400)), (79, (400, 3000))),
    "all type alike": ((12, (100, 400)), (40, (100, 400)), (79, (100, 400))),
    "the large group types little": ((12, (400, 3000)), (40, (100, 400)), (79, (20, 40))),
}


@click.command()
@click.option("--sets", default=1500, show_default=True, help="Data sets of each case.")
@click.option("--permutations", default=499, show_default=True, help="Shuffles of each data set.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on standard output.")
def main(sets: int, permutations: int, as_json: bool) -> None:
    """Simulate groups of 12, 40 and 79 people of equal recall, and count what is below 5 and 2.5 %."""
    figures.NUM_PERMUTATIONS = permutations
    rows = []
    for name, groups in CASES.items():
        rng = np.random.default_rng(0)
        p_values = np.array([figures.permutation_test(_histograms(groups, rng), seed=i).p_value for i in range(sets)])
        rows.append({"case": name, "sets": sets, **{f"at_{level}": _share(p_values, level) for level in (0.05, 0.025)}})
        if not as_json:
            click.echo(f"{name:30}  {rows[-1]['at_0.05']:.1%} at 5 %  {rows[-1]['at_0.025']:.1%} at 2.5 %")
    if as_json:
        click.echo(json.dumps(rows))


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

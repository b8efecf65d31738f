"""Several sums a round over parts of the cohort, and a mean of them that a liar among the clients can't move far.

A sum hides its vectors, so a server can't leave out one that lies within the bounds. It can leave out a sum: the
cohort is split into groups, each group is summed as a cohort is, and the groups' means are combined coordinate by
coordinate. One liar spoils one group. The price: the server sees sums of fewer people, and the combined mean weighs
groups alike and is noisier than the mean of all.

Source: Chen, Su, Xu 2017, "Distributed Statistical Machine Learning in Adversarial Settings: Byzantine Gradient
Descent" (a median of the means of batches; theirs is the geometric one); Yin et al. 2018, "Byzantine-Robust Distributed
Learning: Towards Optimal Statistical Rates", definitions 1 and 2 (the coordinate-wise median and trimmed mean).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from models.weights import Weights
from orchestrator.aggregator import AggregateResult, Aggregator, Cohort, CostLedger, DropStage, StageCost, Vector
from orchestrator.encoding import Encoder
from orchestrator.errors import BelowThreshold, Diverged, ImplausibleSum
from orchestrator.seeds import Purpose, simulation_rng

Vectors = Iterable[tuple[ClientId, Vector]]


def median(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the coordinate-wise median of the groups' means; of two in the middle, their mean.

    Args:
      means: [num_groups, ...].

    >>> median(np.float32([[1, 5], [2, 6], [9, -9]]))
    array([2., 5.], dtype=float32)
    """
    return np.median(means, axis=0).astype(np.float32)


def trimmed_mean(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the coordinate-wise mean without the lowest and the highest quarter, of each at least one group.

    Args:
      means: [num_groups, ...], num_groups at least 3.

    >>> trimmed_mean(np.float32([[1, 5], [2, 6], [3, 7], [99, -99]]))
    array([2.5, 5.5], dtype=float32)
    """
    num_cut = max(1, len(means) // 4)
    return np.sort(means, axis=0)[num_cut:-num_cut].mean(axis=0, dtype=np.float64).astype(np.float32)


COMBINATIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "median": median,
    "trimmed": trimmed_mean,
}


@dataclass(frozen=True)
class Groups:
    """How a round's cohort is split, and how the groups' means become one.

    Attributes:
      count: the number of groups, at least 3.
      combine: a function of COMBINATIONS.
    """

    count: int
    combine: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def split(cohort: Cohort, groups: Optional[Groups], seed: int) -> tuple[Cohort, ...]:
    """Returns the cohort in groups that the seed draws, whose sizes differ by one at most; whole without `groups`.

    Each group keeps the cohort's order and its minimum of survivors.

    >>> names = tuple(ClientId(name) for name in "abcdefgh")
    >>> ["".join(group.members) for group in split(Cohort(1, names), Groups(3, median), seed=0)]
    ['cdg', 'bfh', 'ae']
    """
    if groups is None:
        return (cohort,)
    order = simulation_rng(seed, Purpose.GROUPS, cohort.round_num).permutation(len(cohort.members))
    return tuple(
        replace(cohort, members=tuple(cohort.members[place] for place in sorted(places)))
        for places in np.array_split(order, groups.count)
    )


def in_turn(cohorts: Sequence[Cohort]) -> Cohort:
    """Returns a cohort of all their members, group after group: the order in which they train."""
    return replace(cohorts[0], members=tuple(chain.from_iterable(cohort.members for cohort in cohorts)))


def sum_groups(
    aggregator: Aggregator,
    vectors: Vectors,
    cohorts: Sequence[Cohort],
    drops: Mapping[ClientId, DropStage],
    encoder: Encoder,
    groups: Optional[Groups],
) -> tuple[AggregateResult, Optional[Weights]]:
    """Returns the sum, and the groups' combined mean, or None where there are no groups.

    A group that can't be summed, or whose sum no honest clients can give, is left out. With groups, the total holds the
    totals of the others, one after the other, and the cost is that of all of them.

    Args:
      aggregator: sums each group.
      vectors: of all members, group after group.
      cohorts: as `split` returns them.
      drops: the members that vanish.
      encoder: decodes each sum.
      groups: how the cohort was split.

    Raises:
      BelowThreshold: half of the groups or more are left out, or there are no groups and the sum fails.
    """
    if groups is None:
        return aggregator.sum(vectors, cohorts[0], drops), None
    results, means, reasons = [], [], []
    for cohort, own in _turns(vectors, cohorts):
        try:
            result = aggregator.sum(own, cohort, drops)
            means.append(encoder.decode(result.total, len(result.survivors))[0])
        except (BelowThreshold, Diverged, ImplausibleSum) as error:
            reasons.append(str(error))
            continue
        results.append(result)
    if 2 * len(means) <= len(cohorts):
        raise BelowThreshold(
            f"round {cohorts[0].round_num}: {len(means)} of {len(cohorts)} groups can be summed, more than half are "
            f"needed; the first that can't: {reasons[0]}"
        )
    # Two groups have no trimmed mean; their median is their mean, which the check of each sum bounds.
    combine = groups.combine if len(means) > 2 else median
    return _joined(results), tuple(combine(np.stack(tensors)) for tensors in zip(*means))


def _turns(vectors: Vectors, cohorts: Sequence[Cohort]) -> Iterator[tuple[Cohort, Iterator[tuple[ClientId, Vector]]]]:
    """Each group with its own vectors, none of which is asked for before the aggregator wants it."""
    waiting = iter(vectors)
    held: list[tuple[ClientId, Vector]] = []
    group_of = {member: number for number, cohort in enumerate(cohorts) for member in cohort.members}

    def of_group(number: int) -> Iterator[tuple[ClientId, Vector]]:
        while True:
            item = held.pop() if held else next(waiting, None)
            if item is None:
                return
            if group_of[item[0]] > number:
                held.append(item)
                return
            if group_of[item[0]] == number:  # an aggregator may have given up an earlier group half-way
                yield item

    for number, cohort in enumerate(cohorts):
        yield cohort, of_group(number)


def _joined(results: Sequence[AggregateResult]) -> AggregateResult:
    """The groups' sums as one result."""
    numbers = [len(result.survivors) for result in results]
    return AggregateResult(
        total=np.concatenate([result.total for result in results]),
        survivors=tuple(chain.from_iterable(result.survivors for result in results)),
        cost=CostLedger(
            per_client=_summed([r.cost.per_client for r in results], [n / sum(numbers) for n in numbers]),
            server=_summed([r.cost.server for r in results], [1.0] * len(results)),
            decryptor=_summed([r.cost.decryptor for r in results], [1.0] * len(results)),
            helpers=_summed([r.cost.helpers for r in results], [1.0] * len(results)),
        ),
    )


def _summed(ledgers: Sequence[Mapping[str, StageCost]], shares: Sequence[float]) -> dict[str, StageCost]:
    """The costs by stage, each ledger's counted by its share."""
    joined: dict[str, StageCost] = {}
    for ledger, share in zip(ledgers, shares):
        for stage, cost in ledger.items():
            before = joined.get(stage, StageCost())
            joined[stage] = StageCost(
                before.bytes_up + share * cost.bytes_up,
                before.bytes_down + share * cost.bytes_down,
                before.cpu_s + share * cost.cpu_s,
            )
    return joined

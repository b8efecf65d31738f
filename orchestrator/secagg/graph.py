"""Decides who masks with whom: the degree and threshold that a cohort needs, and the random graph itself.

A client shares its two secrets among its neighbours only; `threshold` of them can recover one secret. A semi-malicious
server is honest until the keys are exchanged and may then lie about who dropped out. Against it the threshold must be
so high that the server, helped by all the corrupt neighbours of a client, can't gather `threshold` shares of both
secrets. An honest neighbour gives a share of one secret or the other, so 2 * threshold > degree + corrupt neighbours.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

from orchestrator.secagg.errors import WeakParameters
from orchestrator.settings.sections import AggregationConfig

_DEFAULTS = AggregationConfig()


@dataclass(frozen=True)
class Policy:
    """What a party assumes and insists on. Clients and server each compute the graph's parameters from their policies.

    Attributes:
      corrupt_share: the share of the cohort that may collude with the server, in 0..1.
      dropout_share: the share of the cohort that may vanish without stopping the round, in 0..1.
      security_bits: the graph exposes someone with probability below 2**-security_bits.
      correctness_bits: the graph fails to recover from drop-outs within dropout_share with probability below
        2**-correctness_bits.
      semi_malicious: whether the server may lie; False trusts it to follow the protocol.
      complete_up_to: cohorts up to this size use the complete graph, where nothing is left to chance.
      min_survivors: the fewest vectors that may be summed.
      max_clients: the largest cohort whose degree is worth computing; a client refuses a larger one.
    """

    corrupt_share: float = _DEFAULTS.corrupt_share
    dropout_share: float = _DEFAULTS.dropout_share
    security_bits: int = 40
    correctness_bits: int = 20
    semi_malicious: bool = True
    complete_up_to: int = _DEFAULTS.complete_up_to
    min_survivors: int = _DEFAULTS.min_survivors
    max_clients: int = 1 << 20

    def __post_init__(self) -> None:
        for name in ("corrupt_share", "dropout_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in 0..1, got {name}={getattr(self, name)}")
        for name in ("security_bits", "correctness_bits", "min_survivors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {name}={getattr(self, name)}")


@dataclass(frozen=True)
class GraphParameters:
    """The number of neighbours of each client, and how many of them recover a secret of it."""

    num_clients: int
    degree: int
    threshold: int

    @property
    def is_complete(self) -> bool:
        """Whether all clients are each other's neighbours."""
        return self.degree == self.num_clients - 1


@lru_cache(maxsize=256)
def graph_parameters(num_clients: int, policy: Policy) -> GraphParameters:
    """Returns the smallest degree and threshold with which a cohort of num_clients satisfies the policy.

    Raises:
      WeakParameters: no graph on num_clients satisfies the policy.

    >>> graph_parameters(100, Policy())
    GraphParameters(num_clients=100, degree=99, threshold=53)
    >>> graph_parameters(1000, Policy())
    GraphParameters(num_clients=1000, degree=314, threshold=179)
    """
    if num_clients > policy.complete_up_to:
        for degree in range(2, num_clients - 1, 2):
            threshold = _regular_threshold(num_clients, degree, policy)
            if threshold is not None:
                return GraphParameters(num_clients, degree, threshold)
    degree = num_clients - 1
    num_corrupt = most_corrupt_of(num_clients, policy.corrupt_share)
    threshold = _threshold(degree, num_corrupt, policy)
    num_dropped = math.floor(policy.dropout_share * num_clients + 1e-9)
    if threshold > degree - num_dropped:
        raise WeakParameters(
            f"a cohort of {num_clients} with {num_corrupt} corrupt clients and {num_dropped} drop-outs needs "
            f"{threshold} of {degree} neighbours left: select more clients or assume smaller shares"
        )
    return GraphParameters(num_clients, degree, threshold)


def most_corrupt_of(num_clients: int, corrupt_share: float) -> int:
    """Returns how many of some clients may collude with the server, rounded up: the safe side."""
    return math.ceil(corrupt_share * num_clients - 1e-9)


def fewest_survivors(num_enrolled: int, corrupt_share: float) -> int:
    """Returns the fewest vectors of a sum that holds two honest ones, whomever of those enrolled the server invites.

    It is at least three, as the smallest cohort is.

    >>> [fewest_survivors(num_enrolled, 0.05) for num_enrolled in (3, 10, 100, 1000)]
    [3, 3, 7, 52]
    """
    return max(most_corrupt_of(num_enrolled, corrupt_share) + 2, 3)


def _threshold(degree: int, num_corrupt_neighbours: int, policy: Policy) -> int:
    """Returns the least threshold; at least 2, or each share would be the secret."""
    if policy.semi_malicious:
        return max((degree + num_corrupt_neighbours) // 2 + 1, 2)
    return max(num_corrupt_neighbours + 1, 2)


def _regular_threshold(num_clients: int, degree: int, policy: Policy) -> Optional[int]:
    """Returns the least threshold for a random regular graph of this degree, or None if there is none.

    Source: the three conditions are those of Bell et al. 2020, https://eprint.iacr.org/2020/704, section 3,
    with the union bounds of graph_parameter_finder.cc in google-parfait/federated-compute, whose published
    values the tests compare with.
    """
    num_corrupt = math.floor((policy.corrupt_share + 1e-14) * num_clients)
    num_dropped = math.floor((policy.dropout_share + 1e-14) * num_clients)
    log_risk = -(policy.security_bits + 1) * math.log(2.0)  # two bad events share the security bits
    if _log_disconnected(num_clients, degree, num_corrupt + num_dropped) >= log_risk:
        return None
    most_corrupt = _upper_quantile(num_clients, num_corrupt, degree, log_risk - math.log(num_clients))
    log_failure = -policy.correctness_bits * math.log(2.0) - math.log(num_clients)
    most_dropped = _upper_quantile(num_clients, num_dropped, degree, log_failure)
    threshold = _threshold(degree, most_corrupt, policy)
    return threshold if threshold <= degree - most_dropped else None


def _log_disconnected(num_clients: int, degree: int, num_gone: int) -> float:
    """Returns the log of a bound on the probability that the honest survivors' graph falls apart.

    A circulant graph falls apart only if degree / 2 successive clients are gone at two places of the circle.
    """
    if degree > num_gone:
        return -math.inf
    num_gap_pairs = num_clients * (num_clients - degree - 1) / 2
    return (
        math.log(num_gap_pairs)
        + math.lgamma(num_gone + 1)
        + math.lgamma(num_clients - degree + 1)
        - math.lgamma(num_clients + 1)
        - math.lgamma(num_gone - degree + 1)
    )


def _upper_quantile(population: int, num_marked: int, num_drawn: int, log_probability: float) -> int:
    """Returns the least x with P[X > x] <= exp(log_probability); X counts the marked ones among those drawn."""

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    limit, tail = math.exp(log_probability), 0.0
    smallest = max(0, num_marked + num_drawn - population)
    for x in range(min(num_marked, num_drawn), smallest, -1):
        log_mass = log_choose(num_marked, x) + log_choose(population - num_marked, num_drawn - x)
        tail += math.exp(log_mass - log_choose(population, num_drawn))  # P[X >= x]
        if tail > limit:
            return x
    return smallest


class Graph:
    """A random circulant graph on 0..num_clients-1; it is complete if the degree is num_clients - 1.

    The operating system's randomness draws the circle's order, since no corrupt client may choose its neighbours.
    """

    def __init__(self, parameters: GraphParameters):
        self._circle = list(range(parameters.num_clients))
        secrets.SystemRandom().shuffle(self._circle)
        self._place = {index: place for place, index in enumerate(self._circle)}
        self._degree = parameters.degree

    def neighbours(self, index: int) -> list[int]:
        """Returns the neighbours of a client, sorted."""
        size = len(self._circle)
        if self._degree == size - 1:
            return [other for other in range(size) if other != index]
        half = self._degree // 2
        steps = (step for step in range(-half, half + 1) if step)
        return sorted(self._circle[(self._place[index] + step) % size] for step in steps)

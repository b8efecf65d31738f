"""The kinds that a setting can name, as rows: what the rules between settings ask of each.

A setting that names a kind may have any key of the dict here as its value. What computes with a kind stands in the room
that does the work: sums in orchestrator/rounds/sums.py, mechanisms in orchestrator/privacy/mechanisms.py, the server's
algorithms in tff_pipelines/algorithms.py. Nothing else compares such a name: it asks the row. docs/extending.md says
how to add a row, also from a file outside this repository.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import ConfigError

Kind = TypeVar("Kind")


def kind_of(kinds: Mapping[str, Kind], setting: str, name: str) -> Kind:
    """Returns the row of a name.

    Raises:
      ConfigError: no row has this name.
    """
    if name not in kinds:
        raise ConfigError(f"{setting} = {name!r}: must be {one_of_words(kinds)}")
    return kinds[name]


def one_of_words(names: Iterable[object]) -> str:
    """Returns the names as a person lists them.

    >>> one_of_words(["constant", "linear", "cosine"])
    'constant, linear or cosine'
    """
    *others, last = map(str, names)
    return f"{', '.join(others)} or {last}" if others else last


@dataclass(frozen=True)
class SumTraits:
    """What a way to sum promises.

    Attributes:
      label: the name for people.
      server_sees: what the server learns of a round, as a noun phrase.
      hides_updates: the server sees the sum of the updates only; a sum of one would therefore give that one away.
      needs_cohort_first: the members of a sum must be known before any of them trains.
    """

    label: str
    server_sees: str
    hides_updates: bool = True
    needs_cohort_first: bool = False


SUM_TRAITS: dict[str, SumTraits] = {
    "plain": SumTraits("plain sum", "every update", hides_updates=False),
    "secagg": SumTraits("secure aggregation", "the sum", needs_cohort_first=True),
    "encrypted": SumTraits("encrypted sum", "the sum"),
    "split": SumTraits("split sum", "the sum"),
}


@dataclass(frozen=True)
class RobustMean:
    """How the means of a round's groups become one; see orchestrator/rounds/groups.py.

    Attributes:
      label: the name for people.
    """

    label: str


ROBUST_MEANS: dict[str, RobustMean] = {
    "median": RobustMean("coordinate-wise median"),
    "trimmed": RobustMean("coordinate-wise trimmed mean"),
}


class NoiseFrom(enum.Enum):
    """Who adds a mechanism's noise."""

    NOBODY = enum.auto()
    SERVER = enum.auto()
    CLIENTS = enum.auto()


_CENTRAL_TRUST = "The server is trusted to add the noise: it sees {server_sees} without it."
_CORRELATED_TRUST = f"{_CENTRAL_TRUST} The noise is correlated over rounds (DP-FTRL)."


@dataclass(frozen=True)
class MechanismTraits:
    """What a mechanism of differential privacy promises.

    Attributes:
      label: the name for people.
      colour: its line in plots.
      noise_from: who adds the noise.
      trust: a sentence that says who must be trusted; {server_sees} and {min_survivors} stand for the run's.
      is_split: each client adds a share of the noise, and only the sum has the whole of it.
      is_correlated: the noise of a round depends on that of the rounds before, so rounds are released in order.
      is_gaussian: the cost is exactly that of a Gaussian release; otherwise only zCDP is known.
      allows_adaptive_clip: the noise may follow a clip norm that changes from round to round.
      has_bands: the setting privacy.bands shapes the noise.
      has_buffers: the setting privacy.buffers does.
    """

    label: str
    colour: str
    noise_from: NoiseFrom
    trust: str
    is_split: bool = False
    is_correlated: bool = False
    is_gaussian: bool = True
    allows_adaptive_clip: bool = False
    has_bands: bool = False
    has_buffers: bool = False

    @property
    def adds_noise(self) -> bool:
        """True for every mechanism but "none"."""
        return self.noise_from is not NoiseFrom.NOBODY

    @property
    def from_clients(self) -> bool:
        """True if the clients add the noise."""
        return self.noise_from is NoiseFrom.CLIENTS

    @property
    def releases_uploads(self) -> bool:
        """True if each upload has all of its noise, and is therefore a release by itself."""
        return self.from_clients and not self.is_split


MECHANISM_TRAITS: dict[str, MechanismTraits] = {
    "none": MechanismTraits("no noise", "#000000", NoiseFrom.NOBODY, "", allows_adaptive_clip=True),
    "central": MechanismTraits(
        "central, independent noise", "#0072b2", NoiseFrom.SERVER, _CENTRAL_TRUST, allows_adaptive_clip=True
    ),
    "tree": MechanismTraits(
        "central, tree (DP-FTRL)", "#009e73", NoiseFrom.SERVER, _CORRELATED_TRUST, is_correlated=True
    ),
    "matrix": MechanismTraits(
        "central, banded matrix (DP-FTRL)",
        "#d55e00",
        NoiseFrom.SERVER,
        _CORRELATED_TRUST,
        is_correlated=True,
        has_bands=True,
    ),
    "blt": MechanismTraits(
        "central, buffers (BLT-DP-FTRL)",
        "#e69f00",
        NoiseFrom.SERVER,
        _CORRELATED_TRUST,
        is_correlated=True,
        has_buffers=True,
    ),
    "distributed": MechanismTraits(
        "by the clients, in the secure sum",
        "#56b4e9",
        NoiseFrom.CLIENTS,
        "Enough noise is in the sum if at least {min_survivors} clients' updates are, which the aggregator enforces, "
        "and if all of them added theirs: colluding clients can take theirs away. The server sees no sum without "
        "noise. Accounted by zCDP.",
        is_split=True,
        is_gaussian=False,
    ),
    "local": MechanismTraits(
        "by each client on its own",
        "#999999",
        NoiseFrom.CLIENTS,
        "Nobody is trusted: each update leaves its client with all of its noise.",
    ),
}


@dataclass(frozen=True)
class Schedule:
    """How a learning rate falls.

    Attributes:
      left: the share of the fall that is still ahead, 1 to 0, as a function of the share of the way down, 0 to 1.
      falls: False if the rate stays as it is, whatever `left` says.
    """

    left: Callable[[float], float]
    falls: bool = True


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(lambda fallen: 1.0, falls=False),
    "linear": Schedule(lambda fallen: 1.0 - fallen),
    "cosine": Schedule(lambda fallen: (1.0 + math.cos(math.pi * fallen)) / 2.0),
}


@dataclass(frozen=True)
class Weighting:
    """What a client's update counts by in the mean.

    Attributes:
      weight: from the client's words and sentences of a round; it must grow with both.
      depends_on_text: a weight tells how much somebody typed, and lets one person count for more than another.
    """

    weight: Callable[[int, int], float]
    depends_on_text: bool = True


WEIGHTINGS: dict[str, Weighting] = {
    "tokens": Weighting(lambda num_tokens, num_examples: num_tokens),
    "examples": Weighting(lambda num_tokens, num_examples: num_examples),
    "equal": Weighting(lambda num_tokens, num_examples: 1, depends_on_text=False),
}


@dataclass(frozen=True)
class ClientRuntime:
    """What trains the clients.

    Attributes:
      is_exported: it runs the model as exported for phones, which trains without dropout and without FedProx.
    """

    is_exported: bool


CLIENT_RUNTIMES: dict[str, ClientRuntime] = {
    "tff": ClientRuntime(is_exported=False),
    "litert": ClientRuntime(is_exported=True),
}


@dataclass(frozen=True)
class FleetPolicy:
    """How the server deals with a fleet.

    Attributes:
      has_fleet: False if everybody is there and nothing takes time.
      is_buffered: the server steps when a buffer of updates is full; otherwise it selects a cohort for each round.
    """

    has_fleet: bool = True
    is_buffered: bool = False

    @property
    def selects_cohorts(self) -> bool:
        """True if a fleet's phones are selected for each round."""
        return self.has_fleet and not self.is_buffered


FLEET_POLICIES: dict[str, FleetPolicy] = {
    "off": FleetPolicy(has_fleet=False),
    "sync": FleetPolicy(),
    "fedbuff": FleetPolicy(is_buffered=True),
}

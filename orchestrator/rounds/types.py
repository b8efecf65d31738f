"""The values that pass between the steps of a round, and the steps as functions that are bound to a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable, Generic, Optional, Protocol, TypeVar

import numpy as np

from models.client_result import ClientResult
from models.corpus import ClientId
from models.weights import Weights
from orchestrator.aggregator import Aggregator, Cohort, CostLedger, Vector
from orchestrator.encoding import Encoder
from orchestrator.rounds.adaptive_clip import AdaptiveClip
from orchestrator.rounds.groups import Groups


@dataclass(frozen=True)
class ServerState:
    """What the server keeps from round to round."""

    round_num: int  # of the last round done; 0 = the initial state
    weights: Weights
    optimizer_state: Any  # as the server half returns it
    average: Optional[Weights] = None  # exponential average of the weights, if one is kept
    clip_norm: Optional[float] = None  # of the next round, if it adapts
    earlier: tuple[Weights, ...] = ()  # FedBuff: versions before, newest first, that phones still work from

    @property
    def model(self) -> Weights:
        """The weights to evaluate and export: the average where there is one."""
        return self.average or self.weights


@dataclass(frozen=True)
class ClientUpdate:
    """One client's result. delta = server's weights minus the client's: TFF's sign, a pseudo-gradient."""

    client_id: ClientId
    delta: Weights
    num_examples: int
    num_tokens: int
    num_batches: int
    loss_sum: float  # nats
    is_finite: bool


class Stopwatch(Protocol):
    """Times the stages of a round: training.py's reads the clock."""

    def stage(self, name: str) -> AbstractContextManager:
        """Opens a context whose time counts for `name`, and not for the stage around it."""
        ...


@dataclass(frozen=True)
class Release:
    """What differential privacy lets out of a round."""

    mean_delta: Weights
    share_under_clip: Optional[float]  # of the clients, if the clip adapts
    epsilon: float  # of the whole run up to here, at its delta


class Privacy(Protocol):
    """What differential privacy does in a round; orchestrator/privacy/mechanism.py binds it to a run."""

    def before_round(self, cohort: Cohort) -> None:
        """Checks that the round may be released; it is called before anyone trains.

        Raises:
          PrivacyStop: the round could not be released.
        """
        ...

    def client_noise(self, vector: Vector, encoder: Encoder, round_num: int, client_id: ClientId) -> Vector:
        """Returns one client's vector with the client's own noise; unchanged if the server adds the noise."""
        ...

    def release(self, total: Vector, encoder: Encoder, cohort: Cohort) -> Release:
        """Charges the ledger for a sum, and returns the sum's noised mean.

        Raises:
          ImplausibleSum: no honest clients can give the sum.
          PrivacyStop: it may not be released.
        """
        ...


class Canaries(Protocol):
    """Clients of an audit that send what they are told; orchestrator/run/canary_clients.py binds them to a run."""

    @property
    def members(self) -> Collection[ClientId]:
        """Their names."""
        ...

    def update(self, client_id: ClientId, clip_norm: float) -> Weights:
        """Returns a canary client's delta: its direction, still to be clipped, or zeros if it is out."""
        ...

    def inner_products(self, tensors: Weights) -> Sequence[float]:
        """Returns the inner product of the tensors, as one vector, with each member's direction, in or out."""
        ...


class Work(Protocol):
    """What a client trains on in a round: sentences or examples, in batches."""

    @property
    def num_batches(self) -> int:
        """Batches of all epochs."""
        ...


Own = TypeVar("Own", bound=Work)  # the kind of batches that a run's clients train on


@dataclass(frozen=True)
class RoundFunctions(Generic[Own]):
    """The steps of a round, bound to a run: its data, the two TFF halves, the encoder and the sum between them."""

    batches_of: Callable[[ClientId, np.random.Generator], Own]
    train_clients: Callable[[Weights, float, int, Iterable[Own]], Iterator[ClientResult]]
    weight_of: Callable[[ClientUpdate], float]
    encoder: Encoder
    aggregator: Aggregator
    update_server: Callable[[Any, Weights, Weights, float], tuple[Any, Weights]]
    average_decay: float = 0.0
    privacy: Optional[Privacy] = None
    adaptive_clip: Optional[AdaptiveClip] = None  # its clip norm is the first round's; the encoder counts for it
    canaries: Optional[Canaries] = None
    groups: Optional[Groups] = None  # None = one sum of the whole cohort


@dataclass(frozen=True)
class RoundReport:
    """What a round leaves in rounds.jsonl."""

    round_num: int
    outcome: str  # "completed" or "abandoned"
    selected: tuple[ClientId, ...]
    survivors: tuple[ClientId, ...]
    metrics: Mapping[str, float]
    stage_s: Mapping[str, float]
    cost: CostLedger
    weights_sha256: str
    reason: str = ""  # why it was abandoned
    epsilon: Optional[float] = None  # None without differential privacy
    aggregate_sha256: str = ""  # of the sum as raw little-endian uint32, before the server's noise; empty if abandoned
    fleet: Optional[Mapping[str, Any]] = None  # virtual seconds and drop-outs, under a simulated fleet
    canary_products: Optional[tuple[float, ...]] = None  # canaries' inner products with what was released of the sum

"""Turns a cohort's encoded updates into one sum: the Aggregator protocol and the plain sum.

Every aggregator sums the same encoded integers modulo 2**32, so that for the same cohort and the same drop-outs each
gives the same total, bit for bit. Vectors come in one at a time and in the cohort's order, so that an aggregator need
not hold them all.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.errors import BelowThreshold

Vector = NDArray[np.uint32]  # [num_slots], modulo 2**32; the last slot is the weight


class DropStage(enum.Enum):
    """The stage before which a client has vanished; drop-outs are data, not errors."""

    NONE = "none"
    BEFORE_SHARES = "before_shares"
    BEFORE_UPLOAD = "before_upload"
    BEFORE_UNMASK = "before_unmask"  # its vector arrived and counts


@dataclass(frozen=True)
class Cohort:
    """The clients selected for a round, in a fixed order.

    Attributes:
      staleness: in FedBuff, by how many rounds the weights are older that a member began with; 0 for all others.
    """

    round_num: int
    members: tuple[ClientId, ...]
    min_survivors: int = 1
    staleness: Mapping[ClientId, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StageCost:
    """The cost of a protocol stage for one role; in `per_client`, the mean over the clients that took part."""

    bytes_up: float = 0.0
    bytes_down: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class CostLedger:
    """The costs of one aggregation, by role and stage; all but those of `per_client` are totals of the round."""

    per_client: Mapping[str, StageCost] = field(default_factory=dict)
    server: Mapping[str, StageCost] = field(default_factory=dict)
    decryptor: Mapping[str, StageCost] = field(default_factory=dict)
    helpers: Mapping[str, StageCost] = field(default_factory=dict)


@dataclass(frozen=True)
class AggregateResult:
    """The sum of the survivors' vectors, modulo 2**32, and its cost."""

    total: Vector
    survivors: tuple[ClientId, ...]
    cost: CostLedger


def total_digest(total: Vector) -> str:
    """Returns the SHA-256 (hex) of a total as raw little-endian uint32.

    >>> total_digest(np.arange(2, dtype=np.uint32))[:8]
    '01acecb5'
    """
    return hashlib.sha256(np.ascontiguousarray(total, "<u4").data).hexdigest()


class Aggregator(Protocol):
    """Sums a cohort's vectors."""

    name: str

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """Returns the sum over the survivors.

        Args:
          vectors: (client, uint32 [num_slots]) of each member that gets as far as computing one, in the cohort's order.
          cohort: the clients that were selected.
          drops: the members that vanish, and when; a member that is not in it stays.

        Raises:
          BelowThreshold: fewer than cohort.min_survivors vectors can be summed.
        """
        ...


class PlainSum:
    """Adds the vectors in the clear, so that the server sees each one; the secure sums must equal its total."""

    name = "plain"

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See Aggregator.sum."""
        total, survivors = None, []
        num_bytes, server_cpu_s = 0, 0.0
        for client_id, vector in vectors:
            if drops.get(client_id, DropStage.NONE) in (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD):
                continue
            started = time.process_time()
            if total is None:
                total = np.zeros_like(vector)
            total += vector  # uint32 wraps: modulo 2**32
            survivors.append(client_id)
            num_bytes += vector.nbytes
            server_cpu_s += time.process_time() - started
        require_survivors(survivors, cohort)
        assert total is not None
        return AggregateResult(
            total=total,
            survivors=tuple(survivors),
            cost=CostLedger(
                per_client={"upload": StageCost(bytes_up=num_bytes / len(survivors))},
                server={"sum": StageCost(bytes_down=num_bytes, cpu_s=server_cpu_s)},
            ),
        )


def require_survivors(survivors: Sequence[ClientId], cohort: Cohort) -> None:
    """Passes if enough vectors are left to hide in.

    Raises:
      BelowThreshold: fewer are left than the cohort's minimum, so that the round must be abandoned.
    """
    needed = max(1, cohort.min_survivors)
    if len(survivors) < needed:
        raise BelowThreshold(
            f"round {cohort.round_num}: {len(survivors)} of {len(cohort.members)} clients are left, {needed} needed"
        )

"""The seam where a cohort's encoded updates become one sum: the Aggregator protocol and the plain sum.

Every aggregator sums the same encoded integers modulo 2**32, so that for the same cohort and the same drop-outs each
gives the same total, bit for bit. Vectors come in one at a time and in the cohort's order: an aggregator must not hold
them all.
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

Vector = NDArray[np.uint32]  # [dim + 1], modulo 2**32; the last slot is the weight


class DropStage(enum.Enum):
    """The last stage before which a client is gone; drop-outs are data, not errors."""

    NONE = "none"
    BEFORE_SHARES = "before_shares"
    BEFORE_UPLOAD = "before_upload"
    BEFORE_UNMASK = "before_unmask"  # its vector arrived and counts


@dataclass(frozen=True)
class Cohort:
    """The clients selected for a round, in a fixed order."""

    round_num: int
    members: tuple[ClientId, ...]
    min_survivors: int = 1


@dataclass(frozen=True)
class StageCost:
    """What a protocol stage costs one role; for `per_client` the mean over the clients that took part."""

    bytes_up: float = 0.0
    bytes_down: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class CostLedger:
    """The bill of one aggregation, by role and stage. `server` and `decryptor` are totals of the round."""

    per_client: Mapping[str, StageCost] = field(default_factory=dict)
    server: Mapping[str, StageCost] = field(default_factory=dict)
    decryptor: Mapping[str, StageCost] = field(default_factory=dict)


@dataclass(frozen=True)
class AggregateResult:
    """The sum of the survivors' vectors, modulo 2**32, and what it cost."""

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
        """The sum over the survivors.

        Args:
          vectors: (client, uint32 [dim + 1]) of every member that gets as far as computing one, in cohort order.
          cohort: who was selected.
          drops: members that vanish, and when; absent means NONE.

        Raises:
          BelowThreshold: fewer than cohort.min_survivors vectors can be summed.
        """
        ...


class PlainSum:
    """Adds the vectors in the clear: the server sees each one. The baseline that the secure sums must equal."""

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
    """Fails closed when too few vectors are left to hide in.

    Raises:
      BelowThreshold: the round must be abandoned.
    """
    needed = max(1, cohort.min_survivors)
    if len(survivors) < needed:
        raise BelowThreshold(
            f"round {cohort.round_num}: {len(survivors)} of {len(cohort.members)} clients are left, {needed} needed"
        )

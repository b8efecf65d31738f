"""Computes what a participation costs a phone: bytes from the aggregator's ledger, CPU seconds from measured rates.

Bytes are exact: the aggregator itself sums a few small vectors, and its bill grows evenly with slots and neighbours.
CPU seconds can't be taken from the run itself, or two runs of one seed would differ: they are rates that were measured
once, on the processor named below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np

from edge.fleet.phones import Work
from models.corpus import ClientId
from models.weights import ModelSize
from orchestrator.aggregator import Cohort, StageCost
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.settings.sections import AggregationConfig

_WORD_BYTES = 4
_FEW, _MORE, _SLOTS = 8, 16, 4096
# CPU seconds on one core of an x86-64 server (EPYC, AES-NI), from the costs of 16 clients with 1,422,251 slots.
# `fedkeys costs` prints such costs for another machine.
_SHARE_S = 2.1e-4  # a neighbour: agree on a key, split and seal two secrets
_UNMASK_S = 1.1e-4  # a neighbour: open its shares
# How many times as long as that server core a phone's core takes: an assumption, since no phone was measured.
PHONE_FACTOR = 3.0
_SETUP, _FINISH = ("advertise", "shares", "terms"), ("consistency", "unmask")


def participation_work(
    aggregation: AggregationConfig, num_clients: int, size: ModelSize, num_sent: Optional[int] = None
) -> Work:
    """Returns the bytes and CPU seconds of a participation in a sum of num_clients, for a phone whose slowness is 1.

    A phone receives all weights of the model, and sends num_sent of them; None stands for all.
    """
    slots = (size.num_weights if num_sent is None else num_sent) + 1
    kind = SUMS[aggregation.aggregator]
    degree = kind.num_neighbours(aggregation, num_clients)
    stages = _stage_bytes(aggregation, slots, degree)

    def total(names: tuple[str, ...], field: str) -> float:
        return sum(getattr(stages[name], field) for name in names if name in stages)

    num_messages = 2 if degree else 0  # of the set-up, and of the finish: with the neighbours, by way of the server
    return Work(
        model_bytes=_WORD_BYTES * size.num_weights,
        setup_bytes_up=total(_SETUP, "bytes_up"),
        setup_bytes_down=total((*_SETUP, "upload"), "bytes_down"),
        setup_messages=num_messages,
        setup_cpu_s=PHONE_FACTOR * _SHARE_S * degree,
        upload_bytes=stages["upload"].bytes_up,
        upload_cpu_s=PHONE_FACTOR * kind.upload_cpu_s(slots, degree),
        finish_bytes_up=total(_FINISH, "bytes_up"),
        finish_bytes_down=total(_FINISH, "bytes_down"),
        finish_messages=num_messages,
        finish_cpu_s=PHONE_FACTOR * _UNMASK_S * degree,
    )


def _stage_bytes(aggregation: AggregationConfig, slots: int, degree: int) -> dict[str, StageCost]:
    """Returns the bytes by stage for a client with `degree` neighbours: a plane through three small sums."""
    few = _measure(aggregation, _FEW, _SLOTS)
    longer = _measure(aggregation, _FEW, 2 * _SLOTS)
    more = _measure(aggregation, _MORE, _SLOTS) if degree else few

    def extended(stage: str, field: str) -> float:
        base = getattr(few[stage], field)
        by_slot = (getattr(longer[stage], field) - base) / _SLOTS
        by_neighbour = (getattr(more[stage], field) - base) / (_MORE - _FEW)
        return base + by_slot * (slots - _SLOTS) + (by_neighbour * (degree - _FEW + 1) if degree else 0.0)

    return {stage: StageCost(extended(stage, "bytes_up"), extended(stage, "bytes_down")) for stage in few}


def _measure(aggregation: AggregationConfig, num_clients: int, slots: int) -> Mapping[str, StageCost]:
    """Returns the costs of one client that the real aggregator reports."""
    defaults = AggregationConfig(
        aggregator=aggregation.aggregator,
        poly_degree=aggregation.poly_degree,
        coeff_modulus_bits=aggregation.coeff_modulus_bits,
    )
    members = tuple(ClientId(f"client {i}") for i in range(num_clients))
    vectors = ((member, np.zeros(slots, np.uint32)) for member in members)
    return build_aggregator(defaults).sum(vectors, Cohort(1, members, 2), {}).cost.per_client

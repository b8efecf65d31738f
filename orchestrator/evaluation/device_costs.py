"""What a client's part of a sum takes on phones: estimated from its bytes and CPU time, by network and device tier."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import numpy as np

from edge.fleet.profiles import ACCESS, load_device_table, network_kbit_per_s, tiers
from orchestrator.aggregator import StageCost

_BATCH = 10  # sentences, as the phones were measured
_FLOP = 6 * 10 * _BATCH * 1_410_000  # 10 steps a sentence; two passes back for one forward, 2 a weight and position


class Speed(msgspec.Struct, frozen=True):
    """The median speed of a network."""

    downlink_kbit_per_s: float
    uplink_kbit_per_s: float


class OnPhones(msgspec.Struct, frozen=True):
    """What a client's part of a sum takes on phones.

    Attributes:
      networks: {network: its speed}.
      slowdown: {tier: how much longer its phone took for a batch of Gboard's model than the arithmetic takes here}.
      model_s: {network: seconds to receive the model}.
      transfer_s: {aggregator: {network: seconds for a client's bytes}}.
      cpu_s_at_most: {aggregator: {tier: a client's CPU time here, times slowdown}}. The phones ran the model in a slow
        framework, and most have instructions for AES: it bounds their time from far above.
      sources: of the speeds.
    """

    networks: Mapping[str, Speed]
    slowdown: Mapping[str, float]
    model_s: Mapping[str, float]
    transfer_s: Mapping[str, Mapping[str, float]]
    cpu_s_at_most: Mapping[str, Mapping[str, float]]
    sources: tuple[str, ...]


def estimate_on_phones(bills: Mapping[str, StageCost], model_bytes: float, machine_flop_per_s: float) -> OnPhones:
    """Estimates the time of a client's part on phones, from its bytes and its CPU time here.

    Args:
      bills: {aggregator: what a client spends, over all stages}.
      model_bytes: of the model that a client receives.
      machine_flop_per_s: of one core of this machine; see measure_flop_per_s.

    >>> found = estimate_on_phones({"plain": StageCost(bytes_up=1e6, cpu_s=0.01)}, 0.0, 50e9)
    >>> round(found.transfer_s["plain"]["4G"], 2)  # 8 Mbit at 8.14 Mbit/s
    0.98
    """
    speeds = {access: network_kbit_per_s(access) for access in ACCESS}
    slowdown = {
        f"{phone.tier}: {phone.name}": phone.train_step_ms[_BATCH] / 1e3 * machine_flop_per_s / _FLOP
        for phone in tiers()
    }

    def transfer_s(bytes_up: float, bytes_down: float, access: str) -> float:
        down, up = speeds[access]
        return 8e-3 * (bytes_up / up + bytes_down / down)

    return OnPhones(
        networks={access: Speed(down, up) for access, (down, up) in speeds.items()},
        slowdown=slowdown,
        model_s={access: transfer_s(0.0, model_bytes, access) for access in ACCESS},
        transfer_s={
            name: {access: transfer_s(bill.bytes_up, bill.bytes_down, access) for access in ACCESS}
            for name, bill in bills.items()
        },
        cpu_s_at_most={
            name: {tier: bill.cpu_s * factor for tier, factor in slowdown.items()} for name, bill in bills.items()
        },
        sources=tuple(
            load_device_table()[part]["source"] for part in ("anchors", "downlink_kbit_per_s", "uplink_ratio")
        ),
    )


def measure_flop_per_s() -> float:
    """Returns the floating-point operations in a CPU second of this machine, in products of the model's size."""
    rows, inner, columns = 10 * _BATCH, 96, 10_000
    left, right = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    rates = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(5):
            left @ right
        rates.append(5 * 2 * rows * inner * columns / (time.process_time() - started))
    return max(rates)

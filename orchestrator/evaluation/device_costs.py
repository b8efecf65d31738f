"""What a client's part of a sum takes on phones: estimated from its bytes and CPU time, by network and device tier."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge.fleet.profiles import ACCESS, load_device_table, network_kbit_per_s, tiers

_BATCH = 10  # sentences, as the phones were measured
_FLOP = 6 * 10 * _BATCH * 1_410_000  # 10 steps a sentence; two passes back for one forward, 2 a weight and position


def estimate_on_phones(
    bills: Mapping[str, Mapping[str, float]], model_bytes: float, machine_flop_per_s: float
) -> dict[str, Any]:
    """The figures `on_phones` of `fedkeys costs`.

    `transfer_s` is the time for a client's bytes at the median speed of each network; `model_s` that of the model it
    receives. `cpu_s_at_most` is its CPU time here times `slowdown`: how much longer the tier's phone took for a batch
    of Gboard's model than its arithmetic takes here. They ran it in a slow framework, and most have instructions for
    AES: so it bounds the time from above, by far.

    Args:
      bills: {aggregator: {"bytes_up", "bytes_down", "cpu_s"} of a client}.
      model_bytes: of the model that a client receives.
      machine_flop_per_s: of one core of this machine; see measure_flop_per_s.

    >>> found = estimate_on_phones({"plain": {"bytes_up": 1e6, "bytes_down": 0, "cpu_s": 0.01}}, 0.0, 50e9)
    >>> round(found["transfer_s"]["plain"]["4G"], 2)  # 8 Mbit at 8.14 Mbit/s
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

    return {
        "networks": {access: {"downlink_kbit_per_s": d, "uplink_kbit_per_s": u} for access, (d, u) in speeds.items()},
        "slowdown": slowdown,
        "model_s": {access: transfer_s(0.0, model_bytes, access) for access in ACCESS},
        "transfer_s": {
            name: {access: transfer_s(bill["bytes_up"], bill["bytes_down"], access) for access in ACCESS}
            for name, bill in bills.items()
        },
        "cpu_s_at_most": {
            name: {tier: bill["cpu_s"] * factor for tier, factor in slowdown.items()} for name, bill in bills.items()
        },
        "sources": [load_device_table()[part]["source"] for part in ("anchors", "downlink_kbit_per_s", "uplink_ratio")],
    }


def measure_flop_per_s() -> float:
    """Floating-point operations in a CPU second of this machine, in products of the size that the model has."""
    rows, inner, columns = 10 * _BATCH, 96, 10_000
    left, right = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    rates = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(5):
            left @ right
        rates.append(5 * 2 * rows * inner * columns / (time.process_time() - started))
    return max(rates)

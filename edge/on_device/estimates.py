"""What the measured phones say of a model's train step on a phone: ranges with their source, never measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.fleet import profiles
from edge.fleet.profiles import Devices
from edge.on_device.figures import StepEstimate
from models.weights import ModelSize, train_step_flops

_MEASURED_SIZE, _MEASURED_WORDS = ModelSize(10_000, 96, 670), 10  # of the device table's seconds
SOURCE = (
    "estimated: seconds a batch that FLASH (2021) measured on three phones in DL4J, scaled by arithmetic to this "
    "model, spread over 333 phones by ai-benchmark.com's CPU scores (2020)"
)


def estimate_train_steps(size: ModelSize, time: int, batches: Sequence[int]) -> list[StepEstimate]:
    """Milliseconds of a train step on phones, a row a batch size.

    `tiers_ms` gives for low, mid and high the [least, most] among the listed phones of the tier, without the fastest
    and slowest 5 % of all; `phones_ms` the p10, p50 and p90 over all of them. The measurements are of another runtime
    and of sentences of 10 words, so they are scaled by this model's arithmetic and say little beyond the order.

    Args:
      size: the model's.
      time: positions a sentence.
      batches: sentences a step.

    >>> row = estimate_train_steps(ModelSize(10_000, 96, 670), 10, [10])[0]
    >>> [round(ms) for ms in row.tiers_ms["mid"]], round(row.phones_ms["p50"])
    ([1058, 1613], 1371)
    """
    percents = np.arange(5, 96)
    phones = _phones(profiles.slowness_quantiles(percents.tolist()))
    rows = []
    for batch in batches:
        scale = train_step_flops(size, time, 1) / train_step_flops(_MEASURED_SIZE, _MEASURED_WORDS, 1)
        ms = 1e3 * scale * profiles.train_s(phones, 1, batch)
        tiers = {
            name: (float(ms[phones.tier == code].min()), float(ms[phones.tier == code].max()))
            for code, name in enumerate(profiles.TIERS)
        }
        spread = {f"p{p}": float(ms[percents == p][0]) for p in (10, 50, 90)}
        rows.append(StepEstimate(batch, tiers, spread))
    return rows


def estimate_lines(rows: Sequence[StepEstimate]) -> list[str]:
    """Returns the estimates as lines for people."""
    lines = ["train step on phones, seconds, least to most of a tier's phones (10 % to 90 % of all)"]
    for row in rows:
        tiers = ", ".join(f"{name} {low / 1e3:.2g}-{high / 1e3:.2g}" for name, (low, high) in row.tiers_ms.items())
        spread = row.phones_ms
        lines.append(f"  batch {row.batch:3}: {tiers} ({spread['p10'] / 1e3:.2g}-{spread['p90'] / 1e3:.2g})")
    return [*lines, f"  {SOURCE}"]


def _phones(slowness: np.ndarray) -> Devices:
    """Returns phones of these slownesses; only their speed matters here."""
    nothing = np.zeros(len(slowness))
    return Devices(
        tier=profiles.tier_of(slowness),
        slowness=slowness.astype(np.float32),
        ram_mib=nothing.astype(np.int32),
        os_version=nothing.astype(np.float32),
        access=nothing.astype(np.uint8),
        downlink_kbit_per_s=nothing.astype(np.float32),
        uplink_kbit_per_s=nothing.astype(np.float32),
    )

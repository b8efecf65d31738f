"""Phones as measured: how fast they train this model, their memory, their networks.

Every figure comes from edge/fleet/device_table.json, which scripts/derive_device_table.py derives from public
measurements; the table names the source of each. fedkeys measured none of them, and none is of a phone of today: the
compute figures are of 2019 to 2021, the networks of 2021.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TIERS = ("low", "mid", "high")  # codes 0, 1, 2: by the anchor phone that is nearest in speed
ACCESS = ("4G", "5G", "WiFi4", "WiFi5", "WiFi6")  # codes 0..4

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Devices:
    """Phones as arrays, an entry a phone."""

    tier: NDArray[np.uint8]  # index into TIERS
    slowness: FloatArray  # seconds a batch of 10 over those of the mid anchor: 2 = takes twice as long
    ram_mib: NDArray[np.int32]
    os_version: FloatArray  # Android, as 9.0
    access: NDArray[np.uint8]  # index into ACCESS
    downlink_kbit_per_s: FloatArray
    uplink_kbit_per_s: FloatArray

    def __len__(self) -> int:
        return len(self.tier)


@dataclass(frozen=True)
class DeviceProfile:
    """One kind of phone. `train_step_ms` maps a batch size to milliseconds a batch of Gboard's model, measured."""

    name: str
    tier: str
    ram_mib: int
    train_step_ms: Mapping[int, float]
    uplink_kbit_per_s: float
    downlink_kbit_per_s: float
    source: str

    @property
    def devices(self) -> Devices:
        """This phone as arrays of length 1."""
        return Devices(
            tier=np.array([TIERS.index(self.tier)], np.uint8),
            slowness=np.array(
                [self.train_step_ms[10] / _anchor_step_s()[1, _batch_sizes().index(10)] / 1e3], np.float32
            ),
            ram_mib=np.array([self.ram_mib], np.int32),
            os_version=np.array([9.0], np.float32),
            access=np.array([ACCESS.index("WiFi5")], np.uint8),
            downlink_kbit_per_s=np.array([self.downlink_kbit_per_s], np.float32),
            uplink_kbit_per_s=np.array([self.uplink_kbit_per_s], np.float32),
        )


@functools.lru_cache(maxsize=1)
def load_device_table() -> Mapping[str, Any]:
    """Returns the table of distributions with their sources, as edge/fleet/device_table.json holds it."""
    return json.loads(Path(__file__).with_name("device_table.json").read_text())


def tiers() -> tuple[DeviceProfile, ...]:
    """Returns the low, mid and high profile: the three anchor phones with the speed measured on them.

    Memory is the phone's own; the network is the median of the WiFi5 tests.

    >>> [(p.name, round(p.train_step_ms[10])) for p in tiers()]
    [('Nexus 6', 1956), ('Redmi Note 8', 1371), ('Galaxy Note 10', 794)]
    """
    table = load_device_table()["anchors"]
    down, up = network_kbit_per_s("WiFi5")
    return tuple(
        DeviceProfile(
            name=phone["name"],
            tier=phone["tier"],
            ram_mib={"low": 3072, "mid": 4096, "high": 8192}[phone["tier"]],
            train_step_ms={b: 1e3 * s for b, s in zip(table["batch_sizes"], phone["step_s"])},
            uplink_kbit_per_s=up,
            downlink_kbit_per_s=down,
            source=table["source"],
        )
        for phone in table["phones"]
    )


def network_kbit_per_s(access: str, percent: float = 50.0) -> tuple[float, float]:
    """Returns (downlink, uplink) in kbit/s that `percent` per cent of the tests over an access stay below.

    >>> network_kbit_per_s("4G")
    (26100.0, 8143.2)
    """
    table = load_device_table()
    down = float(np.interp(percent, table["downlink_kbit_per_s"]["levels_percent"], _downlink(access)))
    return down, round(down * table["uplink_ratio"]["by_access"][access], 3)


def is_unmetered(access: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True for the codes of WiFi."""
    return access >= ACCESS.index("WiFi4")


def draw_devices(num: int, rng: np.random.Generator, population: str = "in_use") -> Devices:
    """Returns `num` phones drawn from the table.

    Speed, memory and Android version come from the same tenth of the phones, so that slow phones have little memory;
    inside a tenth they are drawn apart. Access is drawn by shares that are assumed, its speed from the speed tests.

    Args:
      num: how many; 0 gives empty arrays.
      rng: what to draw with.
      population: "in_use", phones that a trace of 2020 holds; "in_use_2018", those of them that came out by 2018; or
        "listed", all phones of the list, old ones too.
    """
    table = load_device_table()
    bins = table["slowness"][population]["bins"]
    bin_of = rng.integers(0, len(bins), num)
    edges = np.log(np.array([b["slowness"] for b in bins]))
    slowness = np.exp(edges[bin_of, 0] + (edges[bin_of, 1] - edges[bin_of, 0]) * rng.random(num))
    access = rng.choice(len(ACCESS), num, p=_shares(table["access_share"]["by_access"])).astype(np.uint8)
    percent = rng.uniform(1, 99, num)
    down, ratio = np.zeros(num), np.array([table["uplink_ratio"]["by_access"][a] for a in ACCESS])
    for code, name in enumerate(ACCESS):
        own = access == code
        down[own] = np.interp(percent[own], table["downlink_kbit_per_s"]["levels_percent"], _downlink(name))
    return Devices(
        tier=tier_of(slowness),
        slowness=slowness.astype(np.float32),
        ram_mib=_draw_from_bins(bins, "ram_mib", bin_of, rng).astype(np.int32),
        os_version=_draw_from_bins(bins, "android", bin_of, rng).astype(np.float32),
        access=access,
        downlink_kbit_per_s=down.astype(np.float32),
        uplink_kbit_per_s=(down * ratio[access]).astype(np.float32),
    )


def tier_of(slowness: ArrayLike) -> NDArray[np.uint8]:
    """Returns the code of the tier whose anchor is nearest on a logarithmic scale."""
    anchors = np.log(_anchor_slowness())  # low, mid, high: falling
    middles = (anchors[1:] + anchors[:-1]) / 2
    return (np.log(slowness)[..., None] < middles).sum(-1).astype(np.uint8)


def train_s(devices: Devices, num_batches: ArrayLike, batch_size: int) -> FloatArray:
    """Returns the seconds of `num_batches` training batches on each phone, float32 [phones].

    Between two anchors the time of a batch is interpolated on a logarithmic scale, beyond them it grows with the
    slowness; so the anchors come out at the seconds measured on them. Batches of less than 5 cost as those of 5,
    batches of more than 50 in proportion.

    >>> train_s(tiers()[0].devices, 40, 10).round().tolist()  # 40 batches of 10 on a Nexus 6
    [78.0]
    """
    sizes, steps = _batch_sizes(), _anchor_step_s()
    of_anchor = np.array([np.interp(batch_size, sizes, row) for row in steps]) * max(1.0, batch_size / sizes[-1])
    anchors = _anchor_slowness()[::-1]  # rising
    inside = np.clip(devices.slowness, anchors[0], anchors[-1])
    step = np.exp(np.interp(np.log(inside), np.log(anchors), np.log(of_anchor[::-1]))) * devices.slowness / inside
    return (step * np.asarray(num_batches)).astype(np.float32)


def slowness_quantiles(percents: Sequence[float]) -> NDArray[np.float64]:
    """Returns the slowness that `percents` per cent of the listed phones stay below: the spread over 333 phones."""
    bins = load_device_table()["slowness"]["listed"]["bins"]
    edges = [bins[0]["slowness"][0], *(b["slowness"][1] for b in bins)]
    return np.interp(percents, np.linspace(0, 100, len(edges)), edges)


def _batch_sizes() -> list[int]:
    return load_device_table()["anchors"]["batch_sizes"]


def _anchor_step_s() -> NDArray[np.float64]:
    """Returns the anchor phones' seconds per step, [3, batch sizes], low first."""
    return np.array([phone["step_s"] for phone in load_device_table()["anchors"]["phones"]])


def _anchor_slowness() -> NDArray[np.float64]:
    at_10 = _anchor_step_s()[:, _batch_sizes().index(10)]
    return at_10 / at_10[1]


def _downlink(access: str) -> list[float]:
    return load_device_table()["downlink_kbit_per_s"]["by_access"][access]


def _shares(by_access: Mapping[str, float]) -> list[float]:
    return [by_access[name] for name in ACCESS]


def _draw_from_bins(bins: list[dict], name: str, bin_of: NDArray, rng: np.random.Generator) -> NDArray:
    """Returns a value for each phone from its bin's [[value, share], ...]."""
    out = np.zeros(len(bin_of))
    for index, own in enumerate(bins):
        chosen = bin_of == index
        values, shares = np.array(own[name]).T
        out[chosen] = rng.choice(values, int(chosen.sum()), p=shares / shares.sum())
    return out

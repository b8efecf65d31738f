"""Derives edge/fleet/device_table.json, the distributions of phones and networks, from public measurements.

    python scripts/derive_device_table.py FOLDER

FOLDER holds the raw files, which are not part of this project:
  flash/layer_train_time_seconds.csv.gz   seconds a training batch, by phone, layer and size (from FLASH, BSD-2-Clause)
  flash/raw_ai_benchmark_list.json        scores of 333 phones (ai-benchmark.com, early 2020, as FLASH lists them)
  flash/real2benchmark.json               which of them a trace of 136,000 phones holds (FLASH)
  mobilebandwidth/bandwidth_slim.csv.gz   50,000 speed tests (mobilebandwidth.github.io, Apache-2.0)
"""

from __future__ import annotations

import collections
import csv
import gzip
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

ANCHORS = (
    ("nexus6", "low", "Nexus 6"),
    ("redmi_note8", "mid", "Redmi Note 8"),
    ("sumsung_note10", "high", "Galaxy Note 10"),
)
BATCH_SIZES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)
# The nearest measured sizes to Gboard's model: embedding 10,000 x 96, 670 cells, sentences of 8 words at the mean.
WORDS, WIDTH, CELLS, STEPS = 10000, 100, (650, 700), 10
CELLS_OF_MODEL = 670
ACCESSES = ("4G", "5G", "WiFi4", "WiFi5", "WiFi6")
LEVELS = (1, *range(5, 100, 5), 99)  # per cent
NUM_BINS = 10


def anchors(folder: Path) -> list[dict[str, Any]]:
    """The measured phones: seconds a batch of this model by batch size, the sum of its three layers."""
    seconds = {}
    with gzip.open(folder / "flash/layer_train_time_seconds.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            key = (
                row["device"],
                row["layer"],
                *(int(row[c]) for c in ("in_size", "out_size", "batch_size", "seq_len")),
            )
            seconds[key] = float(row["seconds_per_batch"])

    def step_s(phone: str, batch: int) -> float:
        lstm = [seconds[phone, "lstm", WIDTH, cells, batch, STEPS] for cells in CELLS]
        return (
            seconds[phone, "embedding", WORDS, WIDTH, batch, STEPS]
            + float(np.interp(CELLS_OF_MODEL, CELLS, lstm))
            + seconds[phone, "output", WIDTH, WORDS, batch, STEPS]
        )

    return [
        {"name": name, "tier": tier, "step_s": [round(step_s(phone, batch), 4) for batch in BATCH_SIZES]}
        for phone, tier, name in ANCHORS
    ]


def score(phone: dict[str, str]) -> float:
    """A phone's float score on its CPU."""
    return float(phone["CPU_F_AI_Score"])


def exponent(phones: list[dict[str, str]], measured: list[dict[str, Any]]) -> tuple[float, float]:
    """(e, the mid anchor's score): a step takes ~ score ** -e, through the two anchors that have a score."""
    by_name = collections.defaultdict(list)
    for phone in phones:
        by_name[phone["Model"]].append(score(phone))
    mid = by_name["Xiaomi Redmi Note 8"][0]
    high = math.exp(np.mean(np.log(by_name["Samsung Galaxy Note10"])))  # two chips under one name
    at_10 = BATCH_SIZES.index(10)
    return math.log(measured[1]["step_s"][at_10] / measured[2]["step_s"][at_10]) / math.log(high / mid), mid


def bins(phones: list[dict[str, str]], power: float, mid: float) -> list[dict[str, Any]]:
    """The phones in tenths from fast to slow: their slowness (1 = the mid anchor), memory and Android versions."""
    ordered = sorted(phones, key=score, reverse=True)
    table = []
    for part in np.array_split(np.arange(len(ordered)), NUM_BINS):
        own = [ordered[i] for i in part]
        slowness = [(mid / score(p)) ** power for p in own]
        table.append(
            {
                "slowness": [round(min(slowness), 3), round(max(slowness), 3)],
                "ram_mib": shares(int(1024 * float(p["RAM"][:-2])) for p in own),  # "6GB"
                "android": shares(float(".".join(p["Android"].split(".")[:2])) for p in own),
            }
        )
    return table


def shares(values: Any) -> list[list[float]]:
    """[[value, share], ...], smallest value first."""
    counts = collections.Counter(values)
    return [[value, round(count / sum(counts.values()), 4)] for value, count in sorted(counts.items())]


def downlink(folder: Path) -> dict[str, list[int]]:
    """kbit/s at LEVELS per cent of the speed tests, by access."""
    tests = collections.defaultdict(list)
    with gzip.open(folder / "mobilebandwidth/bandwidth_slim.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            tests[row["access"].replace("wifi", "WiFi")].append(1000 * float(row["bandwidth_Mbps"]))
    return {access: np.percentile(tests[access], LEVELS).round().astype(int).tolist() for access in ACCESSES}


def main(folder: Path) -> None:
    """Writes edge/fleet/device_table.json."""
    phones = json.loads((folder / "flash/raw_ai_benchmark_list.json").read_text())
    seen = set(json.loads((folder / "flash/real2benchmark.json").read_text()).values())
    measured = anchors(folder)
    power, mid = exponent(phones, measured)
    table = {
        "schema": 1,
        "anchors": {
            "source": "FLASH (Yang et al. 2021, BSD-2-Clause): DL4J on Android; embedding 10,000 -> 100, LSTM 100 "
            "-> 670 (between 650 and 700), output 100 -> 10,000, 10 steps; the sum of the layers, an upper bound",
            "batch_sizes": list(BATCH_SIZES),
            "phones": measured,
        },
        "slowness": {
            "source": "step time ~ (ai-benchmark.com's CPU float score, early 2020) ** -exponent through Redmi Note "
            "8 and Galaxy Note 10; 1 = Redmi Note 8; in tenths from fast to slow",
            "exponent": round(power, 3),
            "listed": {"phones": len(phones), "bins": bins(phones, power, mid)},
            "in_use_2018": {
                "source": "those of in_use that came out by 2018",
                "phones": len([p for p in phones if p["Model"] in seen and int(p["Year"]) <= 2018]),
                "bins": bins([p for p in phones if p["Model"] in seen and int(p["Year"]) <= 2018], power, mid),
            },
            "in_use": {
                "source": "the listed phones that FLASH found in a trace of 136,000 phones in use, 2020",
                "phones": len([p for p in phones if p["Model"] in seen]),
                "bins": bins([p for p in phones if p["Model"] in seen], power, mid),
            },
        },
        "downlink_kbit_per_s": {
            "source": "mobilebandwidth.github.io (SIGCOMM 2022, Apache-2.0): 10,000 tests for each access, China, 2021",
            "levels_percent": list(LEVELS),
            "by_access": downlink(folder),
        },
        "uplink_ratio": {
            "source": "uplink over downlink, worldwide, by Ookla: 4G from mobile 11.22 / 35.96 and WiFi from fixed "
            "lines 45.74 / 85.73 Mbit/s (means, September 2020), 5G 21.08 / 166.13 (medians, Q3 2021)",
            "by_access": {"4G": 0.312, "5G": 0.127, "WiFi4": 0.534, "WiFi5": 0.534, "WiFi6": 0.534},
        },
        "access_share": {
            "source": "assumed, not measured",
            "by_access": {"4G": 0.15, "5G": 0.05, "WiFi4": 0.3, "WiFi5": 0.4, "WiFi6": 0.1},
        },
    }
    path = Path(__file__).resolve().parents[1] / "edge/fleet/device_table.json"
    path.write_text(json.dumps(table, indent=1) + "\n")
    print(f"wrote {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

"""What the record adds to a round at Gboard's size: the sum's digest and an entry, beside a round's time.

    python benchmarks/record.py [--round-s 0.86] [--json]

`--round-s`: seconds of a round here, as `wall_s` in rounds.jsonl or benchmarks/round_speed.py say. The default is a
round of 10 clients of 16 batches at 185 client-batches a second, without evaluation or secure sum.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from orchestrator.aggregator import CostLedger
from orchestrator.rounds.types import RoundReport
from orchestrator.run.record import Provenance, Recorder, code_digest

_NUM_SLOTS = 1_422_251  # weights and the weight of the mean


def measure(rounds: int, cohort: int, round_s: float) -> dict[str, float]:
    """Milliseconds a round (median), and their share of a round."""
    total = np.random.default_rng(0).integers(0, 2**32, _NUM_SLOTS, np.uint32)
    people = tuple(f"person{i:06}" for i in range(cohort))
    provenance = Provenance(*["0" * 64] * 5, "")
    digests, entries = [], []
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), provenance, 0)
        recorder.begin("0" * 64)
        for round_num in range(1, rounds + 1):
            started = time.process_time()  # of the CPU: whatever else runs here does not count
            digest = hashlib.sha256(np.ascontiguousarray(total, "<u4").data).hexdigest()
            digests.append(time.process_time() - started)
            report = RoundReport(
                round_num, "completed", people, people, {}, {}, CostLedger(), "0" * 64, aggregate_sha256=digest
            )
            started = time.perf_counter()
            recorder.append(report, sync=round_num % 50 == 0)
            entries.append(time.perf_counter() - started)
    started = time.perf_counter()
    code_digest()
    once = time.perf_counter() - started
    a_round = statistics.median(digests) + statistics.median(entries)
    return {
        "digest_ms": 1e3 * statistics.median(digests),
        "entry_ms": 1e3 * statistics.median(entries),
        "once_a_run_ms": 1e3 * once,
        "share_of_round": a_round / round_s,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--round-s", type=float, default=0.86)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args.rounds, args.cohort, args.round_s)
    if args.json:
        print(json.dumps(figures))
        return
    print(f"digest of the sum {figures['digest_ms']:.2f} ms, an entry {figures['entry_ms']:.2f} ms")
    share, once = figures["share_of_round"], figures["once_a_run_ms"]
    print(f"{share:.2%} of a round of {args.round_s:g} s; once a run {once:.0f} ms")


if __name__ == "__main__":
    main()

"""What each aggregator costs a client and the server, for a vector of the default model's length.

    python benchmarks/aggregation.py [--json] [--clients 10 --clients 100] [--slots 1422251] [--repeats 5]

Each row is a whole cohort in a process of its own, every message as bytes; the total is compared with the sum of the
survivors' vectors, taken apart. Drop-outs share their keys and vanish before the upload, which costs the server most.
CPU seconds; the client's are the mean over the cohort, as clients that work alone would need. The round's are by the
clock and of this process's CPU, in which the clients of a simulation share what all of them compute; making the vectors
is not counted. Memory is the process's peak beyond its imports, the simulated
clients' keys and shares included. Beside it: how fast masks are expanded and added, and how fast the library's AES-CTR
alone fills the same number of bytes, in turns in one process. Run it on an idle machine.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import click
import msgspec
import numpy as np

if TYPE_CHECKING:
    from orchestrator.settings.sections import AggregationConfig

DEFAULT_SLOTS = 1_422_251  # the default model's weights, and the weight slot
CASES = (  # (aggregator, clients, share that drops out)
    ("plain", 10, 0.1),
    ("secagg", 10, 0.0),
    ("secagg", 10, 0.1),
    ("secagg", 100, 0.0),
    ("secagg", 100, 0.1),
    ("secagg", 1000, 0.1),
    ("encrypted", 10, 0.1),
    ("split", 10, 0.1),
    ("split", 100, 0.1),
    ("split", 1000, 0.1),
)


def memory_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found.group(1)) / 1024


def now() -> np.ndarray:
    """Returns seconds by the clock, and of this process's CPU."""
    return np.array([time.perf_counter(), time.process_time()])


def settings_of(name: str) -> AggregationConfig:
    """Returns the settings of an aggregator that can do without a tenth of its clients."""
    from orchestrator.settings.sections import AggregationConfig

    return AggregationConfig(aggregator=name, dropout_share=0.1)


def measure_cohort(name: str, num_clients: int, dropout: float, num_slots: int, repeats: int) -> dict[str, Any]:
    """A row: medians over the repeats."""
    from models.corpus import ClientId
    from orchestrator.aggregator import Cohort, DropStage
    from orchestrator.rounds.build import build_aggregator

    aggregator = build_aggregator(settings_of(name))
    base_mib = memory_mib("VmRSS")
    members = tuple(ClientId(f"client-{i}") for i in range(num_clients))
    num_dropped = round(dropout * num_clients)
    drops = {members[i * num_clients // num_dropped]: DropStage.BEFORE_UPLOAD for i in range(num_dropped)}
    client_cpu_s, server_cpu_s, decryptor_cpu_s, helpers_cpu_s = [], [], [], []
    round_s, round_cpu_s = [], []
    addition_cpu_s, exact, sent = [], True, 0.0
    for round_num in range(repeats):
        expected = np.zeros(num_slots, np.uint32)
        spent = np.zeros(2)  # on making the vectors: by the clock, of CPU

        def vectors(round_num=round_num, expected=expected, spent=spent):
            for place, member in enumerate(members):
                began = now()
                rng = np.random.default_rng([round_num, place])
                vector = rng.integers(0, 2**32, num_slots, dtype=np.uint32)
                if member not in drops:
                    np.add(expected, vector, out=expected)
                spent += now() - began
                yield member, vector

        began = now()
        result = aggregator.sum(vectors(), Cohort(round_num, members, min_survivors=2), drops)
        for seconds, own in zip((round_s, round_cpu_s), now() - began - spent):
            seconds.append(own)
        exact = exact and np.array_equal(result.total, expected) and len(result.survivors) == num_clients - num_dropped
        for seconds, role in (
            (client_cpu_s, result.cost.per_client),
            (server_cpu_s, result.cost.server),
            (decryptor_cpu_s, result.cost.decryptor),
            (helpers_cpu_s, result.cost.helpers),
        ):
            seconds.append(sum(stage.cpu_s for stage in role.values()))
        sent = sum(stage.bytes_up for stage in result.cost.per_client.values())
        if "add" in result.cost.server:
            addition_cpu_s.append(result.cost.server["add"].cpu_s / len(result.survivors))
    return {
        "aggregator": name,
        "clients": num_clients,
        "dropout": dropout,
        "client_cpu_s": round(statistics.median(client_cpu_s), 4),
        "server_cpu_s": round(statistics.median(server_cpu_s), 4),
        "decryptor_cpu_s": round(statistics.median(decryptor_cpu_s), 4),
        "helpers_cpu_s": round(statistics.median(helpers_cpu_s), 4),
        "round_s": round(statistics.median(round_s), 3),
        "round_cpu_s": round(statistics.median(round_cpu_s), 3),
        **({"addition_cpu_s": round(statistics.median(addition_cpu_s), 4)} if addition_cpu_s else {}),
        "upload_ratio": round(sent / (4 * num_slots), 4),
        "exact": bool(exact),
        "server_extra_mib": round(memory_mib("VmHWM") - base_mib, 1),
        "repeats": repeats,
    }


def measure_masks(num_slots: int) -> dict[str, float]:
    """GB/s of expanding and adding 64 masks and of the library's AES-CTR over as many bytes, best of nine turns each.

    On one thread by its own CPU time, which is what a core does; on all by the wall clock.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    from orchestrator.masks import Mask, add_masks

    seeds = [os.urandom(32) for _ in range(64)]
    vector = np.zeros(num_slots, np.uint32)
    zeros, filled = memoryview(bytes(4 * num_slots)), memoryview(bytearray(4 * num_slots))

    def library() -> None:
        for seed in seeds:
            Cipher(algorithms.AES(seed[:16]), modes.CTR(seed[16:])).encryptor().update_into(zeros, filled)

    def ours(num_threads: int) -> None:
        add_masks(vector, (Mask(seed, 1) for seed in seeds), num_threads)

    def seconds(work: Callable[[], None], clock: Callable[[], float]) -> float:
        started = clock()
        work()
        return clock() - started

    turns = [
        (
            seconds(library, time.thread_time),
            seconds(lambda: ours(1), time.thread_time),
            seconds(lambda: ours(os.cpu_count() or 1), time.perf_counter),
        )
        for _ in range(9)
    ]
    rates = [4 * num_slots * len(seeds) / min(column) / 1e9 for column in zip(*turns)]
    return {
        "aes_ctr_gb_per_s": round(rates[0], 2),
        "mask_gb_per_s": round(rates[1], 2),
        "mask_gb_per_s_all_threads": round(rates[2], 2),
        "mask_over_aes_ctr": round(rates[1] / rates[0], 3),
    }


def measure_tenseal(num_clients: int, num_slots: int) -> Optional[dict[str, Any]]:
    """The row of TenSEAL's CKKS vectors with its tutorial's parameters, or None where it is not installed."""
    from homomorphic_libraries import measure, tenseal_roads

    for road in tenseal_roads(num_slots):
        if road.name == "tenseal, CKKS":
            base_mib = memory_mib("VmRSS")
            found = measure(road, num_slots, repeats=3)
            cpu_s = {step: statistics.median(values) for step, values in found.seconds.items()}
            return {
                "aggregator": "tenseal_ckks",
                "clients": num_clients,
                "dropout": 0.0,
                "client_cpu_s": round(cpu_s["encrypt"], 4),
                "server_cpu_s": round(num_clients * (cpu_s["parse"] + cpu_s["add"]), 4),
                "decryptor_cpu_s": round(cpu_s["decrypt"], 4),
                "addition_cpu_s": round(cpu_s["add"], 4),
                "upload_ratio": round(found.sent / (4 * num_slots), 4),
                "exact": road.is_exact,
                "server_extra_mib": round(memory_mib("VmHWM") - base_mib, 1),
                "repeats": 3,
            }
    return None


def alone(work: Callable, *args: Any) -> Any:
    """The result of work in a fresh process, so that no row's memory counts for another."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option("--clients", "sizes", multiple=True, type=int, help="Only these cohort sizes; repeatable.")
@click.option("--slots", default=DEFAULT_SLOTS, show_default=True, help="Length of a vector.")
@click.option("--repeats", default=5, show_default=True, help="Rounds a row; cohorts of 100 and more: one.")
def main(as_json: bool, sizes: tuple[int, ...], slots: int, repeats: int) -> None:
    """Measure the aggregators on the same vectors."""
    from orchestrator.rounds.sums import SUMS

    versions = {name: metadata.version(name) for name in ("cryptography", "numpy", "seal-python")}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "slots": slots, **versions}
    masks = alone(measure_masks, slots)
    rows, others = [], []
    for name, num_clients, dropout in CASES:
        if not sizes or num_clients in sizes:
            row = alone(measure_cohort, name, num_clients, dropout, slots, 1 if num_clients >= 100 else repeats)
            has_masks = SUMS[name].num_neighbours(settings_of(name), num_clients) > 0
            rows.append({**row, **(masks if has_masks else {}), "machine": machine})
            click.echo(f"{name}, {num_clients} clients, {dropout:.0%} drop out: done", err=True)
    if not sizes or 10 in sizes:
        row = alone(measure_tenseal, 10, slots)
        if row is None:
            click.echo("tenseal is not installed: its row is left out", err=True)
        else:
            others.append({**row, "machine": machine})
    if as_json:
        click.echo(msgspec.json.encode(rows + others).decode())
    else:
        print_table(rows + others, masks, machine)
    if not all(row["exact"] for row in rows):
        raise SystemExit("a total is wrong")


def print_table(rows: list[dict[str, Any]], masks: dict[str, float], machine: dict[str, Any]) -> None:
    """The rows for people."""
    columns = (
        "client_cpu_s",
        "server_cpu_s",
        "decryptor_cpu_s",
        "helpers_cpu_s",
        "round_s",
        "round_cpu_s",
        "addition_cpu_s",
        "upload_ratio",
        "server_extra_mib",
        "exact",
        "repeats",
    )
    click.echo(f"{'aggregator':13}{'clients':>8}{'dropout':>8}" + "".join(f"{column:>17}" for column in columns))
    for row in rows:
        click.echo(
            f"{row['aggregator']:13}{row['clients']:>8}{row['dropout']:>8.0%}"
            + "".join(f"{row.get(column, '')!s:>17}" for column in columns)
        )
    click.echo(
        f"masks: {masks['mask_gb_per_s']} GB/s expanded and added on one thread, "
        f"{masks['mask_gb_per_s_all_threads']} on {machine['cores']}; "
        f"AES-CTR alone {masks['aes_ctr_gb_per_s']} GB/s: a share of {masks['mask_over_aes_ctr']}"
    )
    click.echo(", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    main()

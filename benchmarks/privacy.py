"""What differential privacy adds to a round, and how long the ledger takes for 2000 rounds.

    python benchmarks/privacy.py [--json] [--weights 440456] [--cohort 10] [--rounds 160] [--run DIR]

`release` is the server's part of a round: digest of the sum, charge on disk, noise, mean; `client` one client's noise,
which in a real fleet its phone makes. The plain mean of the same sum is measured in turns with it and taken off. With
--run, both are also shown as shares of that run's median round, evaluation and checkpoints left out (the simulation
makes every client's noise). Run it on an idle machine.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import click
import msgspec
import numpy as np

from orchestrator.privacy.mechanisms import MECHANISMS


def measure(mechanism: str, num_weights: int, cohort_size: int, num_rounds: int) -> dict[str, Any]:
    """Milliseconds a round."""
    from models.corpus import ClientId
    from orchestrator.encoding import Encoder
    from orchestrator.privacy.calibration import resolve_privacy
    from orchestrator.privacy.mechanism import build_mechanism
    from orchestrator.rounds.build import build_encoder
    from orchestrator.rounds.cohort import everybody
    from orchestrator.settings.files import read_config

    class Size:
        shapes = ((num_weights,),)

    people = tuple(ClientId(f"p{i}") for i in range(64 * cohort_size))
    overrides = {
        "privacy.mechanism": mechanism,
        "privacy.clip_norm": 1.0,
        "privacy.noise_multiplier": 1.0,
        "client.weighting": "equal",
        "model.start_from_word_counts": False,
        "rounds.cohort_size": cohort_size,
    }
    config = resolve_privacy(read_config(overrides=overrides), len(people))
    encoder: Encoder = build_encoder(config, Size)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    vector = encoder.encode((rng.standard_normal(num_weights).astype(np.float32),), 1.0, rng)
    release_s, release_cpu_s, plain_s, client_s = [], [], [], []
    with tempfile.TemporaryDirectory() as directory:
        bound, plan = build_mechanism(config, Path(directory), len(people)), everybody(config, people)
        for round_num in range(1, num_rounds + 1):
            cohort = plan(round_num).cohort
            started = time.perf_counter()
            bound.client_noise(vector, encoder, round_num, cohort.members[0])
            noised = time.perf_counter()
            encoder.decode(vector, 1)
            decoded, decoded_cpu = time.perf_counter(), time.process_time()
            bound.before_round(cohort)
            bound.release(vector, encoder, cohort)
            client_s.append(noised - started)
            plain_s.append(decoded - noised)
            release_s.append(time.perf_counter() - decoded)
            release_cpu_s.append(time.process_time() - decoded_cpu)
    return {
        "mechanism": mechanism,
        "release_ms": 1e3 * (a_round(release_s) - a_round(plain_s)),
        "release_cpu_ms": 1e3 * (a_round(release_cpu_s) - a_round(plain_s)),
        "client_ms": 1e3 * a_round(client_s),
    }


def a_round(seconds: Sequence[float]) -> float:
    """The median over runs of eight rounds of their mean: the matrix does some of its work once in eight rounds."""
    runs = [seconds[start : start + 8] for start in range(0, len(seconds) - 7, 8)]
    return statistics.median(map(statistics.fmean, runs))


def measure_ledger(num_rounds: int, cohort_size: int) -> dict[str, float]:
    """Seconds for all rounds: charged, synced and turned into an epsilon each; and read back whole."""
    from orchestrator.privacy.ledger import Ledger, LedgerHead, history_of, read_ledger

    seconds = {}
    for mechanism in MECHANISMS:
        head = LedgerHead(
            mechanism, 7.0, 1.0, 800, 1e-4, 100.0, 80, 64 if MECHANISMS[mechanism].traits.has_bands else 1, "-"
        )
        with tempfile.TemporaryDirectory() as directory:
            started, started_cpu = time.perf_counter(), time.process_time()
            ledger = Ledger(Path(directory), head)
            for round_num in range(1, num_rounds + 1):
                turn = round_num % 80
                ledger.charge(round_num, [f"p{turn}-{i}" for i in range(cohort_size)], f"{round_num}")
                ledger.epsilon()
            seconds[mechanism] = time.perf_counter() - started
            seconds[f"{mechanism}, CPU"] = time.process_time() - started_cpu
            started = time.perf_counter()
            history_of(*read_ledger(Path(directory)))
            seconds[f"{mechanism}, read back"] = time.perf_counter() - started
    return seconds


def median_round_ms(path: Path) -> float:
    """Of a run: its stages together, without evaluation, checkpoints and the clients' noise."""
    from orchestrator.run.folder import RunFolder

    left_out = ("evaluate", "checkpoint", "noise")
    rounds = RunFolder(path).rounds()
    return 1e3 * statistics.median(sum(s for n, s in r.stage_s.items() if n not in left_out) for r in rounds)


@click.command()
@click.option(
    "--weights", default=440_456, show_default=True, help="Weights of the model; the default is the preset small."
)
@click.option("--cohort", default=10, show_default=True, help="Clients in a round.")
@click.option("--rounds", type=click.IntRange(8), default=160, show_default=True, help="Rounds to time.")
@click.option("--run", type=click.Path(path_type=Path), help="A run without differential privacy to compare with.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(weights: int, cohort: int, rounds: int, run: Optional[Path], as_json: bool) -> None:
    """Time what differential privacy adds."""
    rows = [measure(mechanism, weights, cohort, rounds) for mechanism in MECHANISMS]
    round_ms = median_round_ms(run) if run else None
    if round_ms:
        for row in rows:
            row["release_share"] = row["release_ms"] / round_ms
            row["simulated_share"] = (row["release_ms"] + cohort * row["client_ms"]) / round_ms
    ledger = measure_ledger(2000, cohort)
    machine = f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    result = {
        "weights": weights,
        "cohort": cohort,
        "n": rounds,
        "round_ms": round_ms,
        "rows": rows,
        "ledger_2000_rounds_s": ledger,
        "machine": machine,
    }
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
        return
    click.echo(f"{weights} weights, cohorts of {cohort}, {rounds} rounds, medians of means of eight; {machine}")
    for row in rows:
        release = f"release {row['release_ms']:7.2f} ms ({row['release_cpu_ms']:.2f} of CPU)"
        shares = f", {row['release_share']:.1%} of a round of {round_ms:.0f} ms" if round_ms else ""
        click.echo(f"  {row['mechanism']:12} {release}{shares}; a client {row['client_ms']:.2f} ms")
    click.echo("the ledger, 2000 rounds: " + ", ".join(f"{name} {value:.2f} s" for name, value in ledger.items()))


if __name__ == "__main__":
    main()

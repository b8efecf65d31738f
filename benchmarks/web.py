"""How heavy and fast the page is in Chromium; what secure aggregation costs its client, and idle tabs a server.

    python benchmarks/web.py [--json] [--bundle runs/demo-bundle] [--clients 10 --clients 100] [--slots N]
                             [--repeats 3] [--tabs 200]

The page comes from the server's own door, with the bundle of `make demo`, to the Chromium of this machine. All bytes
that the door sends in a first visit are counted, with headers; those of LiteRT's .wasm, as compressed, are told apart.
The page is ready when it takes a word and suggests the next one. A train step is compared with LiteRT in Python, one
thread each, by the fastest of 30 steps, which a busy machine disturbs least: the page computes its batch of fixed size
also for one sentence.

One client of a cohort answers the same session in Python and, as TypeScript with WebCrypto, in Node; a tenth of the
cohort vanishes. Both draw the same, so each answer is compared byte by byte. CPU seconds of all threads, the median of
the repeats; a vector is as long as the small model's. Needs `make web`. Run it on an idle machine. The idle tabs are
WebSockets of this process, which have joined and wait: its memory is that of the server and of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

if TYPE_CHECKING:
    from conformance.secagg import Session

GOALS = {"first_visit_mb": 6.0, "ready_ms": 2000.0, "train_step_ratio": 3.0, "key_stroke_ms": 10.0}  # at most
BATCHES = (1, 4, 16)  # sentences, as the page's own benchmark has them
ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "edge" / "clients" / "web"
COST = WEB / "build" / "cost.mjs"
SPEED = WEB / "tests" / "speed.mjs"
NAME = "benchmark"


def small_model_slots() -> int:
    """Returns the length of a vector of the small model: its weights, and the client's weight."""
    from orchestrator.settings.model import ModelConfig

    model = ModelConfig()
    return model.size.num_weights + 1


def in_python(session: Session, index: int) -> dict[str, tuple[float, str]]:
    """Returns the CPU seconds of each stage, and the digest of its answer."""
    client, found = session.again(NAME, index), {}
    for stage, wires in session.wires.items():
        started = time.process_time()
        answer = session.answer(client, index, stage, wires[index])
        found[stage] = time.process_time() - started, hashlib.sha256(answer).hexdigest()
    return found


def in_node(session: Session, index: int) -> dict[str, tuple[float, str]]:
    """As in_python, for the browser's client."""
    from conformance.primitives import policy_fields

    told = {
        "policy": policy_fields(session.plot.policy),
        "enrolled": [key.hex() for key in session.public],
        "agreed": session.agreed.hex(),
        "index": index,
        "identity": session.identities[index].private_bytes_raw().hex(),
        "draws": [octets.hex() for octets in session.draws[index].drawn],
        "vector": session.vectors[index].tobytes().hex(),
        "wires": {stage: wires[index].hex() for stage, wires in session.wires.items()},
    }
    command = ["node", "--no-warnings", str(COST)]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=True)
    return {row["stage"]: (row["cpu_s"], row["answer"]) for row in json.loads(done.stdout)}


def measure(num_clients: int, slots: int, repeats: int) -> dict[str, object]:
    """Returns a row: one client's CPU seconds in a cohort, and whether all its answers are the same."""
    from conformance.secagg import Plot, Session

    silent = {"upload": range(num_clients - num_clients // 10, num_clients)}
    session = Session(NAME, Plot(num_clients, (), silent, num_clients // 2, num_slots=slots))
    python = [in_python(session, 0) for _ in range(repeats)]
    node = [in_node(session, 0) for _ in range(repeats)]
    answers = {tuple(answer for _, answer in run.values()) for run in (*python, *node)}
    python_s, node_s = (
        statistics.median(sum(cpu for cpu, _ in run.values()) for run in runs) for runs in (python, node)
    )
    return {
        "clients": num_clients, "slots": slots, "python_cpu_s": round(python_s, 3), "browser_cpu_s": round(node_s, 3),
        "ratio": round(node_s / python_s, 2), "same_answers": len(answers) == 1, "repeats": repeats,
    }  # fmt: skip


@contextlib.contextmanager
def counted(port: int) -> Iterator[tuple[int, list[int]]]:
    """A port that passes everything on to another one of this machine, and how many bytes came back in each piece."""
    received: list[int] = []

    def passed(source: socket.socket, target: socket.socket, counts: Optional[list[int]]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if counts is not None:
                    counts.append(len(piece))
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def served() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                browser, _ = listener.accept()
                door = socket.create_connection(("localhost", port))
                for pair in ((browser, door, None), (door, browser, received)):
                    threading.Thread(target=passed, args=pair, daemon=True).start()

    with socket.create_server(("localhost", 0)) as listener:
        threading.Thread(target=served, daemon=True).start()
        yield listener.getsockname()[1], received


def native_steps(bundle: Path, sizes: Sequence[int], runs: int = 30) -> dict[int, list[float]]:
    """Returns the milliseconds of train steps in LiteRT of Python on one thread, by sentences in a batch."""
    from edge.bundle.manifest import read_manifest
    from edge.clients.litert import TrainableModel
    from edge.on_device.worker import LEARNING_RATE, dense_batch

    size = read_manifest(bundle)[0].model
    model = TrainableModel((bundle / "train.tflite").read_bytes(), size.size.names)
    times: dict[int, list[float]] = {}
    for batch in sizes:
        dense = dense_batch(size.size.vocabulary_size, size.max_words, batch)
        for _ in range(runs + 3):
            started = time.perf_counter()
            model.train_step(*dense, LEARNING_RATE)
            times.setdefault(batch, []).append(1e3 * (time.perf_counter() - started))
        del times[batch][:3]  # warm-up
    return times


def measure_page(bundle: Path) -> dict[str, object]:
    """Returns the figures of the page in Chromium; empty if there is no browser or no bundle, which it says."""
    from web_browser import find_browser

    from edge.clients.web_page import page_folder

    page, browser = page_folder(), find_browser()
    if page is None or browser is None or not bundle.is_dir():
        lacking = [name for name, there in (("the built page", page), ("Chromium", browser), (bundle, bundle.is_dir()))
                   if not there]  # fmt: skip
        click.echo(f"the page is left out, since there is no {lacking[0]}", err=True)
        return {}
    before = native_steps(bundle, BATCHES)
    first, num_bytes, seen = visit(page, bundle, browser)
    after = native_steps(bundle, BATCHES)
    wasm = sum((page / f"{name[1:]}.br").stat().st_size for name in first["asked"] if name.endswith(".wasm"))
    steps = []
    for step in seen["train_step_ms"]:
        batch, page_ms = step["sentences"], step["min"]
        native_ms = min(before[batch] + after[batch])
        ratio = round(page_ms / native_ms, 2)
        steps.append(
            {"sentences": batch, "page_ms": round(page_ms, 2), "native_ms": round(native_ms, 2), "ratio": ratio}
        )
    return {
        "browser": first["browser"],
        "first_visit_mb": round((num_bytes - wasm) / 1e6, 2),
        "litert_wasm_mb": round(wasm / 1e6, 2),
        "ready_ms": round(statistics.median(seen["ready"])),
        "train_steps": steps,
        "train_step_ratio": max(step["ratio"] for step in steps),
        "key_stroke_ms": round(statistics.median(seen["strokes"]), 1),
        "key_stroke_p90_ms": round(statistics.quantiles(seen["strokes"], n=10)[-1], 1),
        "key_stroke_model_ms": round(seen["key_stroke_ms"][0]["p50"], 2),
    }


def visit(page: Path, bundle: Path, browser: str) -> tuple[dict, int, dict]:
    """Returns what speed.mjs saw in a first visit, the bytes that came in it, and what it saw in the later ones."""
    from web_peer import a_door

    from orchestrator.network.web_site import Bundle, Site

    with contextlib.ExitStack() as stack:
        _, url = stack.enter_context(a_door(site=Site(page, Bundle.read(bundle))))
        port, received = stack.enter_context(counted(int(url.rsplit(":", 1)[1])))
        command = ["node", str(SPEED), f"http://localhost:{port}/", browser]
        driver = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert driver.stdout is not None
        first = json.loads(driver.stdout.readline())
        num_bytes = sum(received)
        return first, num_bytes, json.loads(driver.stdout.readline())


def show_page(figures: dict[str, object]) -> None:
    """Prints the figures of the page, with what is aimed at."""
    click.echo(f"the page in Chromium {figures['browser']}")
    for name, what in (
        ("first_visit_mb", "MB over the wire in a first visit, beyond LiteRT's wasm"),
        ("ready_ms", "ms until it is ready on a warm cache"),
        ("key_stroke_ms", "ms from a key stroke to the suggestions, median"),
        ("train_step_ratio", "times LiteRT in Python for a train step, the largest of:"),
    ):
        click.echo(f"{figures[name]!s:>8} {what} (goal: {GOALS[name]:g})")
    for step in figures["train_steps"]:
        click.echo(f"{'':8} {' '.join(f'{key} {value}' for key, value in step.items())}")


def resident_mib() -> int:
    """Returns this process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def measure_tabs(count: int) -> dict[str, int]:
    """Returns the memory of a server before and while so many clients are connected and wait."""
    from web_peer import a_door, enter, knock

    from models.corpus import ClientId
    from orchestrator.network.authority import make_keys
    from orchestrator.network.certificates import read_signed_roster
    from orchestrator.network.hub import Hub

    async def connect(keys: Path, url: str, hub: Hub) -> int:
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                await enter(keys, *await stack.enter_async_context(knock(url)), name)
            assert len(hub.wait_for_clients(count, count, 10.0)) == count
            return resident_mib()

    names = [ClientId(f"tab{number}") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder, a_door() as (door, url):
        keys = Path(folder)
        make_keys(keys, names)
        roster = read_signed_roster(keys)
        hub = Hub(roster.clients, b"setup", 1 << 23)
        before = resident_mib()
        door.begin(hub, 1 << 23, roster)
        return {"tabs": count, "before_mib": before, "with_tabs_mib": asyncio.run(connect(keys, url, hub))}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--clients", "sizes", type=int, multiple=True, default=(10, 100), help="Clients of a cohort.")
@click.option("--slots", type=int, help="Length of a vector.  [default: the small model's]")
@click.option("--repeats", default=3, help="Repeats of each measurement.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "demo-bundle",
    help="Of the small model.  [default: that of make demo]",
)
@click.option("--tabs", default=200, show_default=True, help="Idle tabs.")
def main(as_json: bool, sizes: tuple[int, ...], slots: Optional[int], repeats: int, bundle: Path, tabs: int) -> None:
    """Measure the page, one client of secure aggregation in Python and in TypeScript, and a server with idle tabs."""
    sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "support")]  # what makes and holds a session
    if not COST.is_file():
        click.echo(
            "the browser's client is not built, so nothing is measured: run make web, which needs Node 20", err=True
        )
        return  # the other benchmarks go on
    page = measure_page(bundle)
    if page and not as_json:
        show_page(page)
    memory = measure_tabs(tabs)
    if not as_json:
        figures = f"{memory['before_mib']} MiB before and {memory['with_tabs_mib']} MiB with them"
        click.echo(f"{tabs} idle tabs: server and tabs in one process had {figures}")
    rows = [measure(num_clients, slots or small_model_slots(), repeats) for num_clients in sizes]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    machine = {"node": node, "python": platform.python_version(), "load_average": round(os.getloadavg()[0], 1)}
    if as_json:
        click.echo(json.dumps({**machine, "page": page, "goals": GOALS, "rows": rows, "idle": memory}))
    else:
        click.echo("".join(f"{name:>15}" for name in rows[0]))
        for row in rows:
            click.echo("".join(f"{value!s:>15}" for value in row.values()))
        click.echo(", ".join(f"{name} {value}" for name, value in machine.items()))
    if not all(row["same_answers"] for row in rows):
        raise SystemExit("an answer differs")


if __name__ == "__main__":
    main()

"""What secure aggregation costs a browser's client beside Python's on the same messages, and idle tabs a server.

    python benchmarks/web.py [--json] [--clients 10 --clients 100] [--slots N] [--repeats 3] [--tabs 200]

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
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

if TYPE_CHECKING:
    from conformance.secagg import Session

ROOT = Path(__file__).resolve().parent.parent
COST = ROOT / "edge" / "clients" / "web" / "build" / "cost.mjs"
NAME = "benchmark"


def small_model_slots() -> int:
    """Returns the length of a vector of the small model: its weights, and the client's weight."""
    from models.weights import ModelSize
    from orchestrator.settings.sections import ModelConfig

    model = ModelConfig()
    return ModelSize(model.vocabulary_size, model.embedding_size, model.num_cells).num_weights + 1


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
@click.option("--tabs", default=200, show_default=True, help="Idle tabs.")
def main(as_json: bool, sizes: tuple[int, ...], slots: Optional[int], repeats: int, tabs: int) -> None:
    """Measure one client of secure aggregation in Python and in TypeScript, and a server with idle tabs."""
    sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "support")]  # what makes and holds a session
    if not COST.is_file():
        click.echo(
            "the browser's client is not built, so nothing is measured: run make web, which needs Node 20", err=True
        )
        return  # the other benchmarks go on
    memory = measure_tabs(tabs)
    if not as_json:
        figures = f"{memory['before_mib']} MiB before and {memory['with_tabs_mib']} MiB with them"
        click.echo(f"{tabs} idle tabs: server and tabs in one process had {figures}")
    rows = [measure(num_clients, slots or small_model_slots(), repeats) for num_clients in sizes]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if as_json:
        click.echo(json.dumps({"node": node, "python": platform.python_version(), "rows": rows, "idle": memory}))
    else:
        click.echo("".join(f"{name:>15}" for name in rows[0]))
        for row in rows:
            click.echo("".join(f"{value!s:>15}" for value in row.values()))
        click.echo(f"node {node}, python {platform.python_version()}")
    if not all(row["same_answers"] for row in rows):
        raise SystemExit("an answer differs")


if __name__ == "__main__":
    main()

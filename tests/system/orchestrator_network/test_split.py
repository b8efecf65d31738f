"""The split sum with its server and its helper as processes, over TLS: each is killed where it hurts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import portpicker
import pytest
import split_processes
from loopback import NAMES, Peer, Served

from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import SERVER
from orchestrator.network.channel import check_server
from orchestrator.network.tls import Tls
from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def start():
    """Starts a party in a process that ends with the test."""
    processes = []
    support = str(Path(split_processes.__file__).parent)
    path = os.pathsep.join([support, os.environ.get("PYTHONPATH", ""), *sys.path])

    def run(party, *arguments):
        call = f"import split_processes; split_processes.{party}(*{list(map(str, arguments))!r})"
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", call], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate(timeout=30)


def peers_of(keys, address, run, state):
    check_server(address, Tls.of_role(keys, SERVER), 120.0)  # until it listens
    return [
        Peer(keys, Served(RunFolder(run), address), name, aggregator="split", journal=state / f"{name}.json")
        for name in NAMES
    ]


def wait_for_death(process):
    assert process.wait(120) == -signal.SIGKILL, process.stderr.read()


def test_no_round_is_opened_twice_whoever_is_killed(tmp_path, start):
    """Round 1 costs two helpers, round 3 the server: both are lost, and all others are summed."""
    keys, run, text, opened = (tmp_path / name for name in ("keys", "run", "text.jsonl", "opened.sqlite"))
    make_keys(keys, NAMES)
    people = [{"client_id": f"p{i}", "text": f"see you at the house word{i}"} for i in range(30) for _ in range(24)]
    text.write_text("".join(json.dumps(line) + "\n" for line in people))
    address, helper_address = (f"localhost:{portpicker.pick_unused_port()}" for _ in range(2))
    party = (keys, helper_address, opened)

    helper = start("helper", *party, "before")
    check_server(helper_address, Tls.of_role(keys, SERVER), 120.0, "helper-1")
    server = start("server", run, keys, address, helper_address, text, "3")
    peers = peers_of(keys, address, run, tmp_path)
    wait_for_death(helper)  # the list has come, nothing is recorded: it is sent again
    helper = start("helper", *party, "after")
    wait_for_death(helper)  # recorded, not answered: nobody opens this round again
    start("helper", *party, "")
    wait_for_death(server)  # it had the masks of round 3
    for peer in peers:
        peer.join()
    before = [(report.round_num, report.outcome) for report in RunFolder(run).rounds()]
    assert before == [(1, "abandoned"), (2, "completed")]

    server = start("server", run, keys, address, helper_address, text, "")
    peers = peers_of(keys, address, run, tmp_path)
    assert server.wait(120) == 0, server.stderr.read()
    assert [peer.join().goodbye for peer in peers] == [f"all {split_processes.NUM_ROUNDS} rounds are done"] * len(NAMES)
    reports = RunFolder(run).rounds()
    assert [report.outcome for report in reports] == ["abandoned", "completed", "abandoned", "completed", "completed"]
    assert "opens nothing: round 1 was opened before: a round or group has one list" in reports[0].reason
    assert "its updates are void" in reports[2].reason
    assert all(set(report.survivors) == set(NAMES) for report in reports if report.outcome == "completed")
    assert reports[2].weights_sha256 == reports[1].weights_sha256 != reports[3].weights_sha256

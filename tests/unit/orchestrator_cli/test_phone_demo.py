"""The demo with a phone: what it refuses at once, and that its clients start with the lobby's end and end with it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import wait_until
from stand_in_bundle import FILES, manifest_of
from web_peer import enrolment

import edge.clients.web_page
from edge.bundle.folder import write_bundle
from edge.errors import BundleError, EdgeError
from orchestrator.cli.phone_demo import _bundle, _config, _Place, _require_ready, clients_beside
from orchestrator.network.certificates import write_roster
from orchestrator.network.errors import PortInUse
from orchestrator.network.lobby import Lobby
from orchestrator.run.folder import RunFolder
from orchestrator.settings.files import read_config
from orchestrator.settings.model import ModelConfig

WAITS = [sys.executable, "-c", "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"]
FAILS = [sys.executable, "-c", "import sys; sys.exit('fedkeys: no such text')"]


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that ended and was not waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_in(log):
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text())


def test_clients_start_once_the_phone_is_on_the_roster_and_end_with_the_block(tmp_path):
    write_roster(tmp_path, {})
    lobby = Lobby(tmp_path, ["AAAA-BBBB-CCCC"])
    with clients_beside(lobby, {"ann": WAITS, "bob": WAITS}, tmp_path):
        assert not list(tmp_path.glob("*.log"))
        lobby.enrol(json.dumps(enrolment("AAAA-BBBB-CCCC", "phone")).encode())
        pids = [pid_in(tmp_path / f"{name}.log") for name in ("ann", "bob")]
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))


def test_a_block_that_ends_before_the_phone_came_starts_nobody(tmp_path):
    write_roster(tmp_path, {})
    lobby = Lobby(tmp_path, ["AAAA-BBBB-CCCC"])
    with clients_beside(lobby, {"ann": WAITS}, tmp_path):
        pass
    lobby.enrol(json.dumps(enrolment("AAAA-BBBB-CCCC", "phone")).encode())
    assert lobby.wait()
    assert not list(tmp_path.glob("*.log"))


def test_a_client_that_fails_is_named_with_its_log(tmp_path, capfd):
    said = ""

    def is_said():
        nonlocal said
        said += capfd.readouterr().err
        return "ended with" in said

    with clients_beside(None, {"ann": FAILS}, tmp_path):
        wait_until(is_said)
    assert f"client ann ended with exit code 1: see {tmp_path / 'ann.log'}" in said
    assert (tmp_path / "ann.log").read_text() == "fedkeys: no such text\n"


def test_clients_end_with_a_demo_that_is_killed(tmp_path):
    script = (
        "import pathlib, sys, time\n"
        "from orchestrator.cli.phone_demo import clients_beside\n"
        f"with clients_beside(None, {{'ann': {WAITS!r}}}, pathlib.Path(sys.argv[1])):\n"
        "    time.sleep(600)\n"
    )
    root = str(Path(edge.__file__).parents[1])
    demo = subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=root, stderr=subprocess.DEVNULL)
    try:
        pid = pid_in(tmp_path / "ann.log")
    finally:
        demo.send_signal(signal.SIGKILL)
        demo.wait()
    wait_until(lambda: not is_running(pid))


def test_what_would_fail_later_is_refused_at_once(tmp_path, monkeypatch):
    place = _Place(tmp_path / "phone")
    monkeypatch.setattr(edge.clients.web_page, "_DIST", tmp_path / "nowhere")
    with pytest.raises(EdgeError, match="make web"):
        _require_ready(place, [("localhost:0", "--web")])
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(edge.clients.web_page, "_DIST", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse, match="choose another --web"):
        _require_ready(place, [(f"localhost:{taken.getsockname()[1]}", "--web")])
    _require_ready(place, [("localhost:0", "--web")])
    assert not place.path.exists()


def test_the_rounds_have_words_and_weights_of_the_model_and_everybody_in_each(tmp_path):
    model = RunFolder(tmp_path / "model")
    model.path.mkdir()
    model.write_config(read_config(preset="smoke", overrides={"rounds.cohort_size": 10}))
    (model.path / "vocabulary.txt").write_text("")
    config = _config(model, _Place(tmp_path / "phone"), 3, 5)
    assert config.data.vocabulary == str(model.path / "vocabulary.txt")
    assert (config.rounds.count, config.rounds.cohort_size, config.aggregation.min_survivors) == (3, 5, 3)
    assert config.client.max_sentences == 100  # of the model's run
    assert config.model == ModelConfig(start=str(model.path))
    assert not config.model.counts_words  # nobody tells a server how often each word occurs
    assert (config.server.algorithm, config.client.learning_rate) == ("fedavg", 0.3)  # whatever the model's run had
    assert config.seed != _config(model, _Place(tmp_path / "phone"), 3, 5).seed  # a phone answers a seed once


def test_the_bundle_beside_the_run_is_taken_and_a_damaged_one_is_told(tmp_path):
    model, beside = RunFolder(tmp_path / "model"), tmp_path / "model-bundle"
    write_bundle(beside, FILES, manifest_of(FILES))
    assert _bundle(model, _Place(tmp_path / "phone")) == beside
    (beside / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        _bundle(model, _Place(tmp_path / "phone"))

"""Five tabs in Chromium beside five Python clients: what is summed, whatever happens to the tabs.

The page is the built one, and all of its programs but LiteRT: the model's training is one that a test can compute to
the bit, fixed_litert.ts. The Python clients are participants in this process, whose updates are given.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import portpicker
import pytest
from loopback import STAGES, WORDS, Peer, Served, wait_until
from web_tabs import update_of
from web_world import (
    ALL,
    BRIEF,
    DESKS,
    PHONES,
    SECRET,
    SIZE,
    TEXTS,
    assert_plain,
    config_with,
    desk_trainer,
    first_state,
    plain_sum,
)

from models.corpus import Corpus
from orchestrator.aggregator import total_digest
from orchestrator.network import messages
from orchestrator.network.client import Participant
from orchestrator.network.session import Deadlines
from orchestrator.network.web_rounds import DoorLimits
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def windows(tensors):
    """Each four numbers in a row that the bytes of some tensors hold."""
    raw = b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors)
    return {raw[at : at + 16] for at in range(0, len(raw) - 15, 4)}


def holds(frames, sought):
    return any(frame[at : at + 16] in sought for frame in frames for at in range(len(frame) - 15))


def test_five_tabs_and_five_python_clients_give_the_plain_sum_to_the_bit(world, tmp_path):
    """And what leaves a phone holds no word, and of no form of its update four numbers in a row.

    One phone's clock stands in 1970: nothing asks for the time of day.
    """
    config = config_with(world.seed())
    with world.rounds(tmp_path, config) as served:
        world.join()
    (report,) = served.rounds
    assert list(report.survivors) == list(ALL)
    assert_plain(config, served.rounds)
    encoder, vectors, _ = plain_sum(config, report)
    weights = first_state().weights
    for name, phone in world.phones.items():
        phone.says("join-outcome", "goodbye: all done")
        sent, received = phone.traffic()
        words = {SECRET, *"\n".join(TEXTS[name]).split()}
        assert not [word for word in words for frame in sent if word.encode() in frame and len(word) > 3]
        update = update_of(TEXTS[name], SIZE)
        trained = tuple(w - d for w, d in zip(weights, update))
        assert not holds(sent, windows(update) | windows(trained) | windows([dict(vectors)[name]]))
        assert holds(received, windows(weights)), "so this finds what is sent in the clear"


@pytest.mark.parametrize("stages", [STAGES[:3], STAGES[3:]], ids="-".join)
def test_tabs_that_close_at_a_stage_are_left_out_and_the_sum_is_the_others(world, tmp_path, stages):
    closing = dict(zip(stages, PHONES))

    def before(client, _, stage):
        if closing.get(stage) == client:
            world.phones[client].close()
            wait_until(lambda: world.server.has_lost(client))  # the browser ends a tab's worker a moment later

    config = config_with(world.seed())
    with world.rounds(tmp_path, config, before) as served:
        world.join()
    (report,) = served.rounds
    assert report.outcome == "completed", report.reason
    gone = {closing[stage] for stage in stages if stage not in ("consistency", "unmask")}  # whose vector did not arrive
    assert list(report.survivors) == [name for name in ALL if name not in gone]
    assert_plain(config, served.rounds)
    assert [phone.name for phone in world.phones.values() if not phone.is_open] == list(closing.values())


def test_a_round_of_which_too_many_reload_is_abandoned_and_they_come_back_for_the_next(world, tmp_path):
    """Nobody answers that round again: not in this server's next rounds, and not when one begins the run anew."""

    reloaded = []

    def before(client, round_num, stage):
        if (round_num, stage) == (1, "upload"):
            world.phones[client].do("reload")
            wait_until(lambda: world.server.has_lost(client))
            reloaded.append(client)

    config = config_with(world.seed(), num_rounds=2)
    with world.rounds(tmp_path, config, before) as served:
        world.join()
        wait_until(lambda: len(reloaded) == len(PHONES))
        world.join()
    first, second = served.rounds
    assert first.reason == "round 1: 5 clients sent masked vectors, 7 needed"
    assert list(second.survivors) == list(ALL)
    assert_plain(config, served.rounds)
    told = {name: phone.uploads() for name, phone in world.phones.items()}
    with world.rounds(tmp_path / "again", config_with(config.seed), deadlines=BRIEF) as served:
        world.join()
        for phone in world.phones.values():
            phone.says("join-outcome", "round 1 came before: this client has answered up to round 2")
    assert list(served.rounds[0].survivors) == list(DESKS)
    assert {name: phone.uploads() for name, phone in world.phones.items()} == told


def test_a_tab_whose_network_is_cut_says_so_and_comes_back_by_itself(world, tmp_path):
    """One is cut for a moment, and is still in the round; another loses its connection, and is in the next one."""
    brief, long = world.phones[PHONES[1]], world.phones[PHONES[0]]

    def before(client, round_num, stage):
        if (client, round_num, stage) == (brief.name, 1, "shares"):
            brief.do("offline", True)
            brief.says("join-outcome", "The connection was lost: this page connects again by itself")
            brief.do("offline", False)
            brief.says("join-outcome", "Waiting for the next round")
        if (client, round_num, stage) == (long.name, 1, "upload"):
            long.do("offline", True)
            world.server.lose(long.name)
            long.says("join-outcome", "The connection was lost: this page connects again by itself")

    config = config_with(world.seed(), num_rounds=2)
    with world.rounds(tmp_path, config, before) as served:
        world.join()
        wait_until(lambda: served.rounds)
        long.do("offline", False)
    first, second = served.rounds
    assert list(first.survivors) == [name for name in ALL if name != long.name]
    assert list(second.survivors) == list(ALL)
    assert_plain(config, served.rounds)
    long.says("join-outcome", "goodbye: all done")


@pytest.mark.parametrize("seconds", [0.0, *map(float, os.environ.get("FEDKEYS_SLEEP_S", "").split())])
def test_a_phone_that_sleeps_in_a_round_is_left_out_and_comes_back_when_it_wakes(world, tmp_path, seconds):
    """The server's patience is scaled down, unless the environment says how long a phone sleeps: FEDKEYS_SLEEP_S=60."""
    sleeper = world.phones[PHONES[-1]]
    asleep = threading.Event()

    def before(client, round_num, stage):
        if (client, round_num, stage) == (sleeper.name, 1, "upload"):
            sleeper.do("sleep", True)
            asleep.set()

    config = config_with(world.seed(), num_rounds=2)
    limits = DoorLimits() if seconds else DoorLimits(pong_s=0.5)
    patient = Deadlines(clients_s=120.0, train_s=20.0, stage_s=2.0)
    try:
        with world.rounds(tmp_path, config, before, patient, limits) as served:
            world.join()
            assert asleep.wait(40)
            woken = time.monotonic() + seconds
            wait_until(lambda: served.rounds and time.monotonic() > woken, 100)
            if not seconds:
                wait_until(lambda: world.server.has_lost(sleeper.name))
            sleeper.do("sleep", False)
            wait_until(lambda: len(served.rounds) == 2, 100)
    finally:
        sleeper.do("sleep", False)
    first, second = served.rounds
    assert list(first.survivors) == [name for name in ALL if name != sleeper.name]
    assert list(second.survivors) == list(ALL)
    assert_plain(config, served.rounds)


# `fedkeys serve --web`, but for TensorFlow's optimiser: the weights stay.
SERVER = """
import sys
from pathlib import Path
from orchestrator.network.serve import serve
from orchestrator.network.session import Deadlines
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_site import Bundle, Site
from orchestrator.run.folder import RunFolder

run, keys, page, bundle, web, grpc = sys.argv[1:]
folder = RunFolder(Path(run))
with WebDoor(Site(Path(page), Bundle.read(Path(bundle)))) as door:
    door.listen(web, None)
    stay = lambda optimizer_state, weights, mean_delta, rate: (optimizer_state, weights)
    deadlines, optimizer = Deadlines(60, 20, 20), lambda *_: (None, stay)
    serve(folder, folder.config(), Path(keys), grpc, deadlines, print, None, optimizer, web=door)
"""


def stalling(num, at):
    """A Python client that never answers in the round `num` once the server can sum: it sets `at` then."""

    class Stalling(Participant):
        def answer(self, message):
            found = messages.decode(message, messages.TO_CLIENT)
            if isinstance(found, messages.Step) and (found.round_num, found.stage) == (num, "unmask"):
                at.set()
                return None
            return super().answer(message)

    return Stalling


def test_a_server_that_is_killed_and_resumed_sums_nobody_twice_and_tabs_come_back_by_themselves(world, tmp_path):
    config = config_with(world.seed(), num_rounds=3)
    begin_run(tmp_path / "run", config)
    folder, site = RunFolder(tmp_path / "run"), world.site
    address, at = f"localhost:{portpicker.pick_unused_port()}", threading.Event()
    command = [
        sys.executable, "-c", SERVER, folder.path, world.keys, site.page, site.bundle.folder, world.address, address,
    ]  # fmt: skip

    @contextmanager
    def server(**changes):
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: can_connect(address))
            for name in DESKS:
                given = {"load_trainer": desk_trainer(name), "journal": tmp_path / name, **changes.get(name, {})}
                Peer(world.keys, Served(folder, address), name, **given)
            yield process
        finally:
            process.kill()
            process.wait(20)

    before = {name: len(phone.uploads()) for name, phone in world.phones.items()}
    with server(**{DESKS[0]: {"kind": stalling(2, at)}}) as process:
        world.join()
        assert at.wait(60)
        process.kill()
        for phone in world.phones.values():
            phone.says("join-outcome", "The connection was lost: this page connects again by itself")
    with server() as process:
        for phone in world.phones.values():
            phone.says("join-outcome", "goodbye: all 3 rounds are done")
        assert process.wait(20) == 0
    reports = folder.rounds()
    assert [report.outcome for report in reports] == ["completed", "abandoned", "completed"]
    assert "the server stopped before it had kept the round" in reports[1].reason
    for name, phone in world.phones.items():
        assert phone.uploads()[before[name] :] == [1, 2, 3]
    for report in (reports[0], reports[2]):
        assert list(report.survivors) == list(ALL)
        assert report.aggregate_sha256 == total_digest(plain_sum(config, report)[2])


def begin_run(path, config):
    """The folder of a run before its first round; nobody holds it afterwards."""
    folder = RunFolder(path)
    folder.create(config, WORDS, build_identity(config, Corpus("texts", {}, "1" * 64), WORDS, SIZE.num_weights))
    folder.save_checkpoint(first_state(), keep=2)


def can_connect(address):
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False

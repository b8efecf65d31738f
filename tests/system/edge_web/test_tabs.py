"""Five tabs in Chromium beside five Python clients: what is summed, whatever happens to the tabs.

The page is the built one, and all of its programs but LiteRT: the model's training is one that a test can compute to
the bit, fixed_litert.ts. The Python clients are participants in this process, whose updates are given.
"""

from __future__ import annotations

import contextlib
import itertools
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
from loopback import CROWD, STAGES, WORDS, Peer, Served, config_of, plan_of, serving, stage_of, wait_until
from web_browser import built_page_and_browser
from web_tabs import Phone, fixed_bundle, fixed_page, tabs_of, update_of

from models.corpus import ClientId, Corpus
from orchestrator.aggregator import Cohort, PlainSum, total_digest
from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_roster
from orchestrator.network.client import Participant
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import Lobby, make_codes
from orchestrator.network.server import max_client_bytes, setup_message
from orchestrator.network.session import Deadlines
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_rounds import DoorLimits
from orchestrator.network.web_site import Bundle, Site
from orchestrator.rounds.build import build_encoder, learning_rates, model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.seeds import Purpose, simulation_rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
DESKS = CROWD[:5]
PHONES = tuple(ClientId(f"phone{i}") for i in range(5))
ALL = (*DESKS, *PHONES)
SECRET = "zebrafish"  # in each of the phones' sentences
TEXTS = {
    name: [f"{SECRET} {WORDS.words[4 + (i + n) % 10]} {WORDS.words[4 + (2 * i + 3 * n) % 10]}" for n in range(20)]
    for i, name in enumerate(PHONES)
}
DEADLINES = Deadlines(clients_s=20.0, train_s=20.0, stage_s=20.0)
BRIEF = Deadlines(clients_s=20.0, train_s=20.0, stage_s=2.0)


def config_with(seed, num_rounds=1, **overrides):
    settings = {
        "seed": seed, "rounds.cohort_size": 10, "client.batch_size": 4, "client.weighting": "equal",
        "aggregation.clip_norm": 4.0, "aggregation.min_survivors": 3, "server.average_decay": 0.0,
    }  # fmt: skip
    return config_of(num_rounds, **{**settings, **overrides})


SIZE = model_size(config_with(0).model, WORDS.size)


def desk_update(name):
    rng = np.random.default_rng(CROWD.index(name))
    return tuple(np.float32(0.01 * rng.standard_normal(shape)) for shape in SIZE.shapes)


def desk_trainer(name):
    def build(config, size):
        return lambda weights, rate, seed, batches: {
            "delta": desk_update(name), "is_finite": True, "num_tokens": 1, "num_examples": 1
        }  # fmt: skip

    return build


def first_state():
    """Weights in 64ths: what a phone takes from them in 32nds is exact."""
    rng = np.random.default_rng(3)
    return ServerState(
        0, tuple(np.float32(rng.integers(-64, 65, shape) / 64) for shape in SIZE.shapes), {"step": np.int32(0)}
    )


def step_by_sign(optimizer_state, weights, mean_delta, learning_rate):
    return optimizer_state, tuple(w - np.float32(np.sign(d) / 64) for w, d in zip(weights, mean_delta))


def plain_sum(config, report):
    """The sum of the survivors' updates, in the clear and in this process."""
    encoder = build_encoder(config, SIZE)
    updates = {name: update_of(TEXTS[name], SIZE) if name in PHONES else desk_update(name) for name in ALL}
    vectors = [
        (
            name,
            encoder.encode(updates[name], 1.0, simulation_rng(config.seed, Purpose.ROUNDING, report.round_num, name)),
        )
        for name in map(ClientId, report.survivors)
    ]
    cohort = Cohort(report.round_num, tuple(name for name, _ in vectors), config.aggregation.min_survivors)
    return encoder, vectors, PlainSum().sum(vectors, cohort, {}).total


def assert_plain(config, reports):
    """Passes if each completed round's sum is the plain one's to the bit, and the weights are those that follow."""
    weights = first_state().weights
    for report in reports:
        if report.outcome == "completed":
            encoder, vectors, total = plain_sum(config, report)
            assert report.aggregate_sha256 == total_digest(total), report.round_num
            mean, _ = encoder.decode(total, len(vectors))
            _, weights = step_by_sign({}, weights, mean, learning_rates(config, report.round_num)[1])
        assert report.weights_sha256 == weights_digest(weights), report.round_num


CLOCK_IS_OFF = """
globalThis.Date = class extends Date {
  constructor(...given) { super(...(given.length > 0 ? given : [0])); }
  static now() { return 0; }
};
"""


class World:
    """Five phones that are enrolled beside five desks, and a port where a server can be.

    The last phone's browser is one of its own, `pocket`: it can sleep while the others work.
    """

    def __init__(self, tabs, pocket, keys, site):
        self.keys, self.site, self._seeds, self.server = keys, site, itertools.count(1), None
        self.address = f"localhost:{portpicker.pick_unused_port()}"
        self.url = f"http://{self.address}"
        self.phones = {name: Phone(pocket if name == PHONES[-1] else tabs, name, self.url) for name in PHONES}

    @contextmanager
    def door(self, lobby=None, limits=None):
        with WebDoor(self.site, lobby, limits or DoorLimits()) as door:
            door.listen(self.address, None)
            yield door

    def seed(self):
        return next(self._seeds)

    def enrol(self):
        codes = make_codes(len(PHONES))
        with self.door(Lobby(self.keys, codes)):
            for phone, code in zip(self.phones.values(), codes):
                phone.open(CLOCK_IS_OFF if phone.name == PHONES[3] else None, part="words")
                phone.types(TEXTS[phone.name])
                phone.do("tap", '.tabs a[href="#join"]')
                phone.enrols(code)
                phone.says("join-outcome", f"enrolled as {phone.name}")

    @contextmanager
    def rounds(self, path, config, before=None, deadlines=DEADLINES, limits=None):
        """A server whose desks are there; `before(client, round, stage)` runs before a phone is asked."""
        with self.door(limits=limits) as door:
            watched = _Watched(door, before or (lambda *_: None))
            self.server = watched
            given = {"deadlines": deadlines, "web": watched, "state": first_state(), "step": step_by_sign}
            with serving(self.keys, path, config, **given) as served:
                desks = [Peer(self.keys, served, name, load_trainer=desk_trainer(name)) for name in DESKS]
                yield served
            assert [desk.join().goodbye for desk in desks] == ["all done"] * len(DESKS)
            door.end_rounds("all done")

    @contextmanager
    def waiting(self, config, roster=None):
        """A server that asks by itself what a test has it ask: the hub."""
        enrolled = roster or read_roster(self.keys)
        hub = Hub(enrolled, setup_message(config, WORDS), max_client_bytes(config, SIZE))
        with self.door() as door:
            door.begin(hub, max_client_bytes(config, SIZE), enrolled)
            yield hub

    def phone(self, name):
        """A phone with its tab open."""
        phone = self.phones[name]
        if not phone.is_open:
            phone.open()
        return phone

    def join(self):
        """All phones take part; who has no tab open opens one."""
        for name in PHONES:
            self.phone(name).joins()


class _Watched:
    """A web door that tells before it asks a client, and can lose a client's connection."""

    def __init__(self, door, before):
        self._door, self._before, self._callers, self._connections = door, before, {}, {}

    def begin(self, hub, most, roster):
        admit = hub.admit

        def admitted(client_id, hang_up):
            self._connections[client_id] = connection = admit(client_id, hang_up)
            talk = connection.talk
            connection.talk = lambda answers: self._told(client_id, talk(answers))
            return connection

        hub.admit = admitted
        self._door.begin(hub, most, roster)
        sockets = self._door._rounds.sockets
        carry = sockets._carry

        def carried(caller, client_id):
            self._callers[client_id] = caller
            return carry(caller, client_id)

        sockets._carry = carried

    def lose(self, client_id):
        """Ends a client's connection without a word, as a network does that is gone."""
        self._door._loop.call_soon_threadsafe(self._callers[client_id].drop)

    def has_lost(self, client_id):
        """Whether a client's connection has ended."""
        return not self._connections[client_id]._is_open

    def _told(self, client_id, questions):
        for question in questions:
            found = messages.decode(question, messages.TO_CLIENT)
            if client_id in PHONES:
                self._before(client_id, getattr(found, "round_num", 0), stage_of(question))
            yield question


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    page, browser = built_page_and_browser()
    folder = tmp_path_factory.mktemp("tabs")
    make_keys(folder / "keys", DESKS)
    site = Site(fixed_page(page, folder / "page"), Bundle.read(fixed_bundle(folder / "bundle", config_with(0))))
    with tabs_of(browser) as tabs, tabs_of(browser) as pocket:
        world = World(tabs, pocket, folder / "keys", site)
        world.enrol()
        yield world


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


AWAKE = """
globalThis.locks = [];
navigator.wakeLock.request = async (kind) => {
  const lock = { kind, released: false, release: async () => { lock.released = true; } };
  locks.push(lock);
  return lock;
};
globalThis.look = (isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  if (isHidden) for (const lock of locks) lock.released = true;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
LOCKS = "JSON.stringify(locks.map(({ released }) => released))"


def test_the_screen_is_kept_on_again_when_the_page_is_looked_at_again_and_only_while_it_takes_part(world):
    phone = world.phones[PHONES[0]]
    if phone.is_open:
        phone.close()
    phone.open(before=AWAKE)
    with world.waiting(config_with(world.seed())):
        phone.joins()
        phone.until(f"{LOCKS} === '[false]'")
        phone.do("evaluate", "look(true)")
        phone.do("evaluate", "look(false)")
        phone.until(f"{LOCKS} === '[true,false]'")
        phone.do("evaluate", "look(false)")  # it is held already
        phone.leaves()
        phone.until(f"{LOCKS} === '[true,true]'")
        phone.do("evaluate", "look(false)")
        assert phone.do("evaluate", LOCKS) == "[true,true]"
    phone.close()


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
    deadlines, optimizer = Deadlines(20, 20, 20), lambda *_: (None, stay)
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


def test_a_code_that_was_used_enrols_nobody_else_and_the_right_one_does(world, tmp_path):
    make_keys(tmp_path / "keys", DESKS)
    used, free = make_codes(2)
    first, late = (Phone(world.phones[PHONES[0]]._tabs, name, world.url) for name in ("first", "late"))
    with world.door(Lobby(tmp_path / "keys", [used, free])):
        for phone in (first, late):
            phone.open()
            phone.enrols(used)
            phone.until('document.getElementById("join-outcome").textContent')
        assert first.text("join-outcome") == "This browser is enrolled as first."
        assert one_sentence(late.text("join-outcome")).startswith("The server refused: this code enrols nobody, or was")
        late.enrols(free)
        late.says("join-outcome", "This browser is enrolled as late.")
    assert read_roster(tmp_path / "keys").keys() == {*DESKS, "first", "late"}
    for phone in (first, late):
        phone.forget()


def one_sentence(said):
    assert said.index(".") == len(said) - 1, said
    return said


def refused(world, config, question=None, name=PHONES[0], **changes):
    """What the page says when a server asks a phone; its sentences and its key are there afterwards."""
    phone = world.phone(name)
    with world.waiting(config, **changes) as hub:
        phone.joins()
        if question is not None:
            (connection,) = hub.wait_for_clients(1, 1, 20)
            assert connection.ask((1, "train"), question)
        phone.until('document.getElementById("join-stop").hidden')
    assert phone.text("words-count") == "20"
    assert phone.text("join-name-shown") == name
    return one_sentence(phone.text("join-outcome"))


def test_a_round_of_another_model_is_refused_in_one_sentence(world):
    other = config_with(world.seed(), **{"client.clip_norm": 0.5})
    said = refused(world, other, plan_of(other))
    assert said == (
        "The rounds ended here: this browser refuses what the server asks: the run trains another model than the one "
        "that this page has: reload it, or ask the operator."
    )


def test_who_is_not_on_the_server_s_roster_is_told_to_enrol(world):
    desks = {name: key for name, key in read_roster(world.keys).items() if name in DESKS}
    said = refused(world, config_with(world.seed()), roster=desks)
    assert said == "The rounds ended here: the server did not let this browser in: enrol with a code from the operator."


def test_a_roster_without_me_is_refused_though_the_server_lets_me_in(world):
    phone, config = world.phone(PHONES[0]), config_with(world.seed())
    others = {name: key.hex() for name, key in read_roster(world.keys).items() if name != phone.name}
    phone.do("answer", {"url": "**/roster.json", "answer": {"json": others}})
    said = refused(world, config)
    phone.do("answer", {"url": "**/roster.json", "answer": None})
    assert said == (
        "The rounds ended here: this browser refuses what the server asks: the roster has no client "
        f"{phone.name}: enrol again."
    )


def test_a_phone_whose_space_is_full_says_so_and_loses_nothing(world):
    """Its browser gives it 200 kB: that is too little for the page's own files, which it then works without."""
    phone = Phone(world.phones[PHONES[0]]._tabs, "full", world.url)
    quota = {"origin": world.url, "quotaSize": 200_000}
    with world.door():
        phone.open(part="words", devtools=["Storage.overrideQuotaForOrigin", quota])
        assert phone.text("status") == "Ready"
        phone.types(TEXTS[PHONES[0]])
        much = "".join(f"{'see you ' * 250}{n}\n" for n in range(1000))
        phone.do("upload", {"selector": "#words-file", "text": much})
        assert one_sentence(phone.says("words-outcome", "The space that this browser gives to this page is full"))
        assert phone.text("words-count") == "20"
    phone.forget()


def test_a_tab_trains_though_the_server_has_gone_before_it_ever_did(world):
    """What training takes was kept when the page was first open."""
    phone = world.phone(PHONES[2])
    phone.do("evaluate", 'location.hash = "#train"')
    phone.do("evaluate", 'document.getElementById("train-ready").click()')
    phone.until('!document.getElementById("train-start").disabled')
    phone.do("tap", "#train-start")
    phone.says("train-outcome", "The training is done.")
    phone.do("evaluate", 'location.hash = "#join"')

"""Five phones with tabs in Chromium and five Python clients, whose updates a test knows to the bit."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager

import numpy as np
import portpicker
from loopback import CROWD, WORDS, Peer, config_of, serving, stage_of
from web_tabs import Phone, update_of

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, PlainSum, total_digest
from orchestrator.network import messages
from orchestrator.network.certificates import read_signed_roster
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import Lobby, make_codes
from orchestrator.network.server import max_client_bytes, setup_message
from orchestrator.network.session import Deadlines
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_rounds import DoorLimits
from orchestrator.rounds.build import build_encoder, learning_rates, model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.seeds import Purpose, simulation_rng

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
    def rounds(self, path, config, before=None, deadlines=DEADLINES, limits=None, helpers=None, aggregator="secagg"):
        """A server whose desks are there; `before(client, round, stage)` runs before a phone is asked."""
        with self.door(limits=limits) as door:
            watched = _Watched(door, before or (lambda *_: None))
            self.server = watched
            given = {"deadlines": deadlines, "web": watched, "begin": (first_state(), step_by_sign), "helpers": helpers}
            with serving(self.keys, path, config, **given) as served:
                desks = [
                    Peer(self.keys, served, name, load_trainer=desk_trainer(name), aggregator=aggregator)
                    for name in DESKS
                ]
                yield served
            assert [desk.join().goodbye for desk in desks] == ["all done"] * len(DESKS)
            door.end_rounds("all done")

    @contextmanager
    def waiting(self, config, lets_in=ALL):
        """A server that asks nothing by itself, and lets these in: its hub."""
        roster, most = read_signed_roster(self.keys), max_client_bytes(config, SIZE)
        hub = Hub({name: roster.clients[name] for name in lets_in}, setup_message(config, WORDS), most)
        with self.door() as door:
            door.begin(hub, most, roster)
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
        self._door, self._before, self._drops, self._connections = door, before, {}, {}

    def begin(self, hub, most, roster, aggregator):
        admit = hub.admit

        def admitted(client_id, hang_up):
            self._connections[client_id] = connection = admit(client_id, hang_up)
            talk = connection.talk
            connection.talk = lambda answers: self._told(client_id, talk(answers))
            return connection

        hub.admit = admitted
        self._door.begin(hub, most, roster, aggregator)
        sockets = self._door._rounds.sockets
        carry = sockets._carry

        def carried(caller, client_id):
            loop = asyncio.get_running_loop()
            self._drops[client_id] = lambda: loop.call_soon_threadsafe(caller.drop)
            return carry(caller, client_id)

        sockets._carry = carried

    def lose(self, client_id):
        """Ends a client's connection without a word, as a network does that is gone."""
        self._drops[client_id]()

    def has_lost(self, client_id):
        """Whether a client's connection has ended."""
        return not self._connections[client_id]._is_open

    def _told(self, client_id, questions):
        for question in questions:
            found = messages.decode(question, messages.TO_CLIENT)
            if client_id in PHONES:
                self._before(client_id, getattr(found, "round_num", 0), stage_of(question))
            yield question

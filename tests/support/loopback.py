"""A server and clients over real connections: TLS on loopback, each client on a thread and a stream of its own.

The clients' training is replaced by a function of their text, since the sum is what is tested: no TensorFlow.
"""

# Over 300 lines: both sides of one conversation, which tests take together.
from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from false_answers import FALSE_SHARES, FALSE_WORDS, false_shares, false_words, junk_upload

from models.corpus import ClientId
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import weights_to_bytes
from orchestrator.aggregator import Cohort
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.network import messages
from orchestrator.network.certificates import SERVER, read_decryptor, read_helpers, read_identity, read_signed_roster
from orchestrator.network.channel import Link, open_channel
from orchestrator.network.client import Participant
from orchestrator.network.decryptor import decryptor_service
from orchestrator.network.demands import Demands
from orchestrator.network.errors import NetworkError
from orchestrator.network.helper import helper_service, reach_helpers
from orchestrator.network.hub import Hub
from orchestrator.network.journal import Journal
from orchestrator.network.pace import Pace
from orchestrator.network.progress import Progress
from orchestrator.network.server import max_client_bytes, serve_rounds, setup_message
from orchestrator.network.session import Deadlines, Party
from orchestrator.network.tls import Tls
from orchestrator.rounds.build import (
    NoStopwatch,
    build_aggregator,
    build_encoder,
    build_groups,
    client_weight,
    cut,
    draw_batches,
    learning_rates,
    model_size,
)
from orchestrator.rounds.round import run_round
from orchestrator.rounds.sums import secagg_policy
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.settings.files import read_config
from orchestrator.wire import encode

CROWD = tuple(ClientId(f"client{i}") for i in range(10))
NAMES = CROWD[:6]
WORDS = Vocabulary(SPECIAL_WORDS + ("see", "you", "at", "the", "house", "of", "my", "friend", "in", "class"))
TEXTS = {name: ("see you at the house", "my friend", "in class") * (1 + i) for i, name in enumerate(CROWD)}
STAGES = ("train", "advertise", "shares", "upload", "consistency", "unmask")
DEADLINES = Deadlines(clients_s=20.0, train_s=20.0, stage_s=20.0)
SHORT = Deadlines(clients_s=20.0, train_s=20.0, stage_s=2.5)


def config_of(num_rounds=1, **overrides):
    settings = {
        "rounds.count": num_rounds, "rounds.cohort_size": len(NAMES), "rounds.checkpoint_every": 1,
        "model.vocabulary_size": 14, "model.embedding_size": 3, "model.num_cells": 5, "client.batch_size": 2,
        "server.algorithm": "fedavg",
    }  # fmt: skip
    return read_config(overrides={**settings, **overrides})


def text_trainer(config, size):
    """A trainer whose update depends on the weights, the learning rate and the batches, and on nothing else."""

    def train(weights, learning_rate, seed, batches):
        rng = np.random.default_rng(int(batches.tokens.sum()))
        step = learning_rate * 0.01 * (1 + abs(float(weights[0].sum())))
        delta = tuple(np.float32(step * rng.standard_normal(shape)) for shape in size.shapes)
        counts = {"num_tokens": batches.num_tokens, "num_examples": batches.num_examples}
        return {"delta": delta, "loss_sum": 1.0, "is_finite": True, **counts}

    return train


def plain_step(optimizer_state, weights, mean_delta, learning_rate):
    return optimizer_state, tuple(w - np.float32(learning_rate) * d for w, d in zip(weights, mean_delta))


def first_state(config):
    rng = np.random.default_rng(3)
    shapes = model_size(config.model, WORDS.size).shapes
    return ServerState(
        0, tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes), {"step": np.int32(0)}
    )


def in_one_process(config, state, report, drops, load_trainer=text_trainer):
    """The state after a round of the same cohort, summed in this process."""
    size = model_size(config.model, WORDS.size)
    trainer = load_trainer(config, size)
    sentences = {name: cut(tuple(map(WORDS.encode, TEXTS[name])), size.vocabulary_size) for name in CROWD}
    functions = RoundFunctions(
        batches_of=lambda person, rng: draw_batches(config, sentences[person], rng),
        train_clients=lambda weights, rate, seed, batches: (trainer(weights, rate, seed, own) for own in batches),
        weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
        encoder=build_encoder(config, size),
        aggregator=build_aggregator(config.aggregation),
        update_server=plain_step,
        average_decay=config.server.average_decay,
        groups=build_groups(config.aggregation),
    )
    client_rate, server_rate = learning_rates(config, state.round_num + 1)
    return run_round(
        state,
        Cohort(state.round_num + 1, tuple(map(ClientId, report.selected))),
        functions,
        seed=config.seed,
        client_learning_rate=client_rate,
        server_learning_rate=server_rate,
        stopwatch=NoStopwatch(),
        drops=drops,
    )[0]


@dataclass
class Served:
    """A server in a thread of this process."""

    folder: RunFolder
    address: str
    notes: list = field(default_factory=list)
    state: object = None

    @property
    def rounds(self):
        return self.folder.rounds()


@contextmanager
def serving(keys, path, config, decryptor=None, deadlines=DEADLINES, helpers=None, web=None, begin=None, seen=None):
    """Serves all rounds of a new run, beside gRPC at a web door if there is one; when the block ends they are done."""
    roster, size = read_signed_roster(keys), model_size(config.model, WORDS.size)
    folder = RunFolder(path / "run")
    digest = digest_of_what_matters(config)
    identity = RunIdentity(SCHEMA, digest, "texts", "1" * 64, WORDS.digest, size.num_weights, {})
    folder.create(config, WORDS, identity)
    most = max_client_bytes(config, size)
    hub = Hub(roster.clients, setup_message(config, WORDS), most)
    port = hub.listen("localhost:0", Tls.of_role(keys, SERVER))
    if web is not None:
        web.begin(hub, most, roster, config.aggregation.aggregator)
    served = Served(folder, f"localhost:{port}")
    (seen := seen or Progress()).begin(hub, roster.clients, config.aggregation.aggregator, config.rounds.count)
    party = Party(hub, roster.clients, deadlines, served.notes.append, decryptor, helpers, seen)

    def run():
        served.state = serve_rounds(folder, config, *(begin or (first_state(config), plain_step)), party)
        hub.stop("all done")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield served
    thread.join(40)
    assert not thread.is_alive(), served.notes


def participant(
    keys,
    name,
    policy=None,
    load_trainer=text_trainer,
    kind=Participant,
    aggregator="secagg",
    journal=None,
    pace=None,
    **limits,
):
    policy = policy or secagg_policy(config_of().aggregation)
    return kind(
        name,
        read_identity(keys, name),
        frozenset(read_signed_roster(keys).clients.values()),
        Demands(policy, aggregator, **limits),
        TEXTS[name],
        Journal(journal),
        pace or Pace(0.0, print),
        read_decryptor(keys),
        load_trainer,
        read_helpers(keys) if aggregator == "split" else (),
    )


def stage_of(message):
    found = messages.decode(message, messages.TO_CLIENT)
    return found.stage if isinstance(found, messages.Step) else type(found).__name__.replace("Plan", "train")


def wait_until(condition, timeout_s=40.0):
    """Returns once the condition, of another thread's making, holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Peer:
    """A client on a thread of its own; `trouble(stage)` says what it does instead of answering, once."""

    def __init__(self, keys, served, name, trouble=None, **changes):
        self._keys, self._address, self._name, self._notes = keys, served.address, name, served.notes
        self._participant = participant(keys, name, **changes)
        self._trouble = trouble or {}
        self.stages, self.goodbye, self.error = [], None, None
        self._answered = []  # (stage, round)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self):
        self._thread.join(40)
        assert not self._thread.is_alive()
        return self

    def rounds_of(self, stage):
        """The rounds in which it answered the stage."""
        return [round_num for own, round_num in self._answered if own == stage]

    def _run(self):
        tls = Tls.of_client(self._keys, self._name)
        try:
            identity = read_identity(self._keys, self._name)
            with (
                open_channel(self._address, tls) as channel,
                Link(channel, self._address, self._name, identity) as link,
            ):
                self._talk(link)
        except Exception as error:  # handed to the test
            self.error = error
        finally:
            self._participant._journal.close()

    def _talk(self, link):
        for message in link:
            stage = stage_of(message)
            self.stages.append(stage)
            trouble = self._trouble.pop(stage, None)
            if trouble == "hang up":
                return
            if trouble == "late":
                wait_until(lambda: any(f"no answer from {self._name}" in note for note in self._notes))
            answer = self._participant.answer(message)
            self.goodbye = self._participant.goodbye
            if self.goodbye is not None:
                return
            if trouble == "junk upload":  # of the right form and signed: an encryption of nothing
                answer = junk_upload(self._participant, answer)
            if trouble in FALSE_SHARES:
                answer = false_shares(trouble, answer)
            if trouble in FALSE_WORDS:
                answer = false_words(trouble, answer, len(NAMES))
            if trouble in ("junk upload", *FALSE_SHARES, *FALSE_WORDS):
                self._trouble[stage] = trouble  # each time
            if trouble == "garbage":
                answer = b"\xc1 no message"
            if trouble == "wrong body":
                found = messages.decode(answer, messages.TO_SERVER)
                answer = encode(messages.Answer(found.round_num, found.stage, memoryview(b"no message")))
            if answer is not None:
                self._answered.append((stage, self._participant._round_num))
                link.send(answer)


@contextmanager
def decrypting(keys, min_contributions=2):
    notes = []
    service = decryptor_service(keys, BfvParameters(), min_contributions, notes.append)
    address = f"localhost:{service.listen('localhost:0')}"
    yield address, notes
    service.stop()


@contextmanager
def helping(keys, folder, run, min_contributions=2, num_helpers=1):
    """The helpers of a run, as the server reaches them; and their notes."""
    services, addresses, notes = [], [], []
    for number in range(1, num_helpers + 1):
        service = helper_service(keys, number, folder / f"opened-{number}.sqlite", min_contributions, notes.append)
        services.append(service)
        addresses.append(f"localhost:{service.listen('localhost:0')}")
    yield reach_helpers(addresses, keys, run, wait_s=20.0), notes
    for service in services:
        service.stop()


def assert_one_line(error):
    assert isinstance(error, NetworkError)
    assert error.exit_code == 2
    assert "\n" not in str(error)


def plan_of(config, round_num=1):
    return encode(messages.Plan(round_num, 1.0, memoryview(weights_to_bytes(first_state(config).weights))))

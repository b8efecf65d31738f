"""Rounds over real connections: TLS on loopback, each client with a connection of its own, no TensorFlow.

The clients' training is replaced by a function of their text, since the sum is what is tested here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
import portpicker
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus import ClientId, Corpus
from models.errors import CorpusError
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import weights_to_bytes
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.homomorphic import messages as encrypted_messages
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.network import messages
from orchestrator.network.certificates import make_keys, read_decryptor, read_identity, read_roster
from orchestrator.network.channel import Link, check_server, open_channel
from orchestrator.network.client import Participant, read_own_sentences, run_client
from orchestrator.network.decryptor import DecryptorService, RemoteDecryptor
from orchestrator.network.errors import (
    BadCertificate,
    KeysError,
    NetworkError,
    PortInUse,
    RunChanged,
    ServerGone,
    UnknownClient,
    WireError,
)
from orchestrator.network.hub import Hub
from orchestrator.network.serve import serve
from orchestrator.network.server import max_client_bytes, serve_rounds, setup_message
from orchestrator.network.session import Deadlines, Party
from orchestrator.rounds.build import (
    NoStopwatch,
    build_aggregator,
    build_encoder,
    client_weight,
    cut,
    draw_batches,
    learning_rates,
    model_size,
)
from orchestrator.rounds.round import run_round, weights_digest
from orchestrator.rounds.sums import secagg_policy
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.run.folder import SCHEMA, RunFolder, RunIdentity, build_identity
from orchestrator.secagg import messages as secagg_messages
from orchestrator.secagg.errors import SessionReplayed, WeakParameters
from orchestrator.secagg.graph import Policy
from orchestrator.settings.files import config_digest, read_config
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)

NAMES = tuple(ClientId(f"client{i}") for i in range(6))
WORDS = Vocabulary(SPECIAL_WORDS + ("see", "you", "at", "the", "house", "of", "my", "friend", "in", "class"))
TEXTS = {name: ("see you at the house", "my friend", "in class") * (1 + i) for i, name in enumerate(NAMES)}
STAGES = ("train", "advertise", "shares", "upload", "consistency", "unmask")
DEADLINES = Deadlines(clients_s=20.0, train_s=20.0, stage_s=20.0)
SHORT = Deadlines(clients_s=20.0, train_s=20.0, stage_s=2.5)


def config_of(num_rounds=1, **overrides):
    return read_config(
        overrides={
            "rounds.count": num_rounds,
            "rounds.cohort_size": len(NAMES),
            "rounds.checkpoint_every": 1,
            "model.vocabulary_size": 14,
            "model.embedding_size": 3,
            "model.num_cells": 5,
            "client.batch_size": 2,
            "server.algorithm": "fedavg",
            **overrides,
        }
    )


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


def in_one_process(config, state, report, drops):
    """The digest of the weights after a round of the same cohort, summed in this process."""
    size = model_size(config.model, WORDS.size)
    trainer = text_trainer(config, size)
    sentences = {name: cut(tuple(map(WORDS.encode, TEXTS[name])), size.vocabulary_size) for name in NAMES}
    functions = RoundFunctions(
        batches_of=lambda person, rng: draw_batches(config, sentences[person], rng),
        train_clients=lambda weights, rate, seed, batches: (trainer(weights, rate, seed, own) for own in batches),
        weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
        encoder=build_encoder(config, size),
        aggregator=build_aggregator(config.aggregation),
        update_server=plain_step,
        average_decay=config.server.average_decay,
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


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, NAMES)
    return folder


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
def serving(keys, path, config, decryptor=None, deadlines=DEADLINES):
    """Serves all rounds of a new run; when the block ends they must be done."""
    roster, size = read_roster(keys), model_size(config.model, WORDS.size)
    folder = RunFolder(path / "run")
    identity = RunIdentity(SCHEMA, config_digest(config), "texts", "1" * 64, WORDS.digest, size.num_weights, {})
    folder.create(config, WORDS, identity)
    hub = Hub(roster, setup_message(config, WORDS), max_client_bytes(config, size))
    port = hub.listen("localhost:0", (keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
    served = Served(folder, f"localhost:{port}")
    party = Party(hub, roster, deadlines, served.notes.append, decryptor)

    def run():
        served.state = serve_rounds(folder, config, first_state(config), plain_step, party)
        hub.stop("all done")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield served
    thread.join(40)
    assert not thread.is_alive(), served.notes


def participant(keys, name, policy=None, load_trainer=text_trainer, kind=Participant):
    return kind(
        name,
        read_identity(keys, name),
        frozenset(read_roster(keys).values()),
        policy or secagg_policy(config_of().aggregation),
        TEXTS[name],
        read_decryptor(keys),
        load_trainer,
    )


def stage_of(message):
    found = messages.decode(message, messages.TO_CLIENT)
    return found.stage if isinstance(found, messages.Step) else type(found).__name__.replace("Plan", "train")


class Peer:
    """A client on a thread of its own; `trouble(stage)` says what it does instead of answering, once."""

    def __init__(self, keys, served, name, trouble=None, **changes):
        self._keys, self._address, self._name = keys, served.address, name
        self._participant = participant(keys, name, **changes)
        self._trouble = trouble or {}
        self.stages, self.goodbye, self.error = [], None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self):
        self._thread.join(40)
        assert not self._thread.is_alive()
        return self

    def _run(self):
        ca = (self._keys / "ca.pem").read_bytes()
        try:
            identity = read_identity(self._keys, self._name)
            with open_channel(self._address, ca) as channel, Link(channel, self._address, self._name, identity) as link:
                self._talk(link)
        except Exception as error:  # handed to the test
            self.error = error

    def _talk(self, link):
        for message in link:
            stage = stage_of(message)
            self.stages.append(stage)
            trouble = self._trouble.pop(stage, None)
            if trouble == "hang up":
                return
            if trouble == "late":
                time.sleep(1.25 * SHORT.stage_s)
            answer = self._participant.answer(message)
            self.goodbye = self._participant.goodbye
            if self.goodbye is not None:
                return
            if trouble == "junk upload":  # of the right form and signed: an encryption of nothing
                answer = junk_upload(self._participant, answer)
                self._trouble[stage] = trouble  # each time
            if trouble == "false commitment":
                found = messages.decode(answer, messages.TO_SERVER)
                dealt = secagg_messages.decode(bytes(found.body), secagg_messages.SealedShares, len(answer))
                body = encode(msgspec.structs.replace(dealt, commitment=bytes(32)))
                answer = encode(messages.Answer(found.round_num, found.stage, memoryview(body)))
            if trouble == "garbage":
                answer = b"\xc1 no message"
            if trouble == "wrong body":
                found = messages.decode(answer, messages.TO_SERVER)
                answer = encode(messages.Answer(found.round_num, found.stage, memoryview(b"no message")))
            if answer is not None:
                link.send(answer)


def junk_upload(liar, answer):
    found = messages.decode(answer, messages.TO_SERVER)
    upload = encrypted_messages.decode(bytes(found.body), encrypted_messages.Upload, 1 << 20)
    junk = np.random.default_rng(0).bytes(len(upload.ciphertexts))
    signed = encrypted_messages.contribution_bytes(
        upload.terms, upload.client_id, hashlib.sha256(junk).digest(), liar._agreed
    )
    forged = msgspec.structs.replace(upload, ciphertexts=memoryview(junk), signature=liar._identity.sign(signed))
    body = memoryview(encode(forged))
    return encode(messages.Answer(found.round_num, found.stage, body))


def test_a_round_gives_the_weights_that_it_gives_in_one_process(keys, tmp_path):
    config = config_of(num_rounds=2)
    with serving(keys, tmp_path, config) as served:
        peers = [Peer(keys, served, name) for name in NAMES]
    assert [p.join().goodbye for p in peers] == ["all done"] * len(NAMES)
    state = first_state(config)
    for report in served.rounds:
        assert report.outcome == "completed"
        assert list(report.survivors) == list(report.selected) == list(NAMES)
        state = in_one_process(config, state, report, {})
        assert report.weights_sha256 == weights_digest(state.model)
    assert served.folder.checkpoints() == [1, 2]
    assert weights_digest(served.folder.load_checkpoint().weights) == weights_digest(served.state.weights)


def test_the_bill_is_that_of_the_simulation(keys, tmp_path):
    config = config_of()
    with serving(keys, tmp_path, config) as served:
        peers = [Peer(keys, served, name) for name in NAMES]
    for peer in peers:
        peer.join()
    size = model_size(config.model, WORDS.size)
    slots = build_encoder(config, size).num_slots
    vectors = ((name, np.zeros(slots, np.uint32)) for name in NAMES)
    simulated = build_aggregator(config.aggregation).sum(vectors, Cohort(1, NAMES), {}).cost
    (report,) = served.rounds
    for role in ("per_client", "server"):
        for stage, cost in getattr(simulated, role).items():
            found = dataclasses.asdict(getattr(report.cost, role)[stage])
            assert (found["bytes_up"], found["bytes_down"]) == (cost.bytes_up, cost.bytes_down), (role, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_who_is_gone_at_a_stage_is_left_out_and_the_rest_finish(keys, tmp_path, stage):
    config = config_of()
    with serving(keys, tmp_path, config) as served:
        peers = [Peer(keys, served, name, {stage: "hang up"} if name == NAMES[2] else None) for name in NAMES]
    for peer in peers:
        peer.join()
    (report,) = served.rounds
    counts = stage in ("consistency", "unmask")  # its vector had arrived
    assert report.outcome == "completed", report.reason
    assert list(report.survivors) == [name for name in NAMES if counts or name != NAMES[2]]
    drops = {} if counts else {NAMES[2]: DropStage.BEFORE_UPLOAD}
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, drops).weights)


@pytest.mark.parametrize("trouble", ["late", "garbage", "wrong body"])
@pytest.mark.parametrize("stage", ["shares", "upload"])
def test_who_is_late_or_lies_drops_out_of_the_round_and_not_of_the_run(keys, tmp_path, stage, trouble):
    config = config_of(num_rounds=3)
    with serving(keys, tmp_path, config, deadlines=SHORT) as served:
        peers = [Peer(keys, served, name, {stage: trouble} if name == NAMES[0] else None) for name in NAMES]
    for peer in peers:
        assert peer.join().error is None
    first, *_, last = served.rounds
    assert list(first.survivors) == list(NAMES[1:])
    assert list(last.survivors) == list(NAMES)
    assert any(NAMES[0] in note for note in served.notes)


def test_who_deals_shares_that_recover_nothing_costs_one_round(keys, tmp_path):
    with serving(keys, tmp_path, config_of(num_rounds=3)) as served:
        peers = [
            Peer(keys, served, name, {"shares": "false commitment"} if name == NAMES[2] else None) for name in NAMES
        ]
    assert [peer.join().error for peer in peers] == [None] * len(NAMES)
    first, *others = served.rounds
    assert first.outcome == "abandoned"
    assert first.reason == "round 1: client2: client 2 dealt shares of another secret than it committed to"
    assert [list(report.survivors) for report in others] == [[name for name in NAMES if name != NAMES[2]]] * 2
    assert "round 1: client2 deals shares that recover nothing: struck off from here on" in served.notes


def test_a_client_that_comes_back_replaces_its_lost_connection(keys, tmp_path):
    config = config_of()
    with serving(keys, tmp_path, config) as served:
        lost = Peer(keys, served, NAMES[0])
        while not lost.stages:
            time.sleep(0.01)
        peers = [Peer(keys, served, NAMES[0])]
        assert lost.join().goodbye is None  # before the others come, with whom a round would begin
        peers += [Peer(keys, served, name) for name in NAMES[1:]]
    assert all(peer.join().goodbye for peer in peers)
    assert list(served.rounds[0].survivors) == list(NAMES)


def test_too_few_are_waited_for_and_not_summed(keys, tmp_path):
    config = config_of()
    deadlines = Deadlines(clients_s=0.2, train_s=5.0, stage_s=5.0)
    with serving(keys, tmp_path, config, deadlines=deadlines) as served:
        peers = [Peer(keys, served, name) for name in NAMES[:2]]
        while not served.notes:
            time.sleep(0.01)
        assert served.notes[0] == "round 1 waits for clients: 3 are needed, 6 wanted"
        assert not served.rounds
        peers += [Peer(keys, served, NAMES[2])]
    assert [peer.join().goodbye for peer in peers] == ["all done"] * 3
    assert list(served.rounds[0].survivors) == list(NAMES[:3])


def test_who_is_waited_for_in_vain_is_waited_for_once(keys, tmp_path):
    deadlines = Deadlines(clients_s=2.0, train_s=20.0, stage_s=20.0)
    started = time.monotonic()
    with serving(keys, tmp_path, config_of(num_rounds=5), deadlines=deadlines) as served:
        peers = [Peer(keys, served, name) for name in NAMES[1:]]
    assert [peer.join().goodbye for peer in peers] == ["all done"] * 5
    assert [list(report.survivors) for report in served.rounds] == [list(NAMES[1:])] * 5
    assert time.monotonic() - started < 5 * deadlines.clients_s


def test_a_client_whose_update_is_not_finite_declines(keys, tmp_path):
    def broken(config, size):
        good = text_trainer(config, size)
        return lambda *args: {**good(*args), "is_finite": False}

    with serving(keys, tmp_path, config_of()) as served:
        peers = [Peer(keys, served, name) for name in NAMES[1:]]
        peers.append(Peer(keys, served, NAMES[0], load_trainer=broken))
    assert all(peer.join().goodbye for peer in peers)
    assert list(served.rounds[0].survivors) == list(NAMES[1:])
    assert "round 1, train: without client0: it declines: the update holds a NaN or an infinity" in served.notes


def test_a_client_refuses_a_server_with_laxer_rules(keys, tmp_path):
    with serving(keys, tmp_path, config_of()) as served:
        peers = [Peer(keys, served, name) for name in NAMES[1:]]
        strict = Peer(keys, served, NAMES[0], policy=Policy(corrupt_share=0.4, dropout_share=0.1))
    assert isinstance(strict.join().error, WeakParameters)
    assert strict.error.exit_code == 3
    assert all(peer.join().goodbye for peer in peers)
    assert list(served.rounds[0].survivors) == list(NAMES[1:])


def test_a_run_goes_on_where_it_stood_and_only_as_it_was_begun(keys, tmp_path):
    config, folder = config_of(num_rounds=2), RunFolder(tmp_path / "run")
    num_weights = model_size(config.model, WORDS.size).num_weights
    folder.create(config, WORDS, build_identity(config, Corpus("texts", {}, "1" * 64), WORDS, num_weights))
    folder.save_checkpoint(dataclasses.replace(first_state(config), round_num=1), keep=2)
    address = f"localhost:{portpicker.pick_unused_port()}"
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="was begun with another config"):
        serve(folder, config_of(num_rounds=3), keys, address, DEADLINES, print)
    folder = RunFolder(tmp_path / "run")

    def run():
        done.append(serve(folder, config, keys, address, DEADLINES, notes.append, None, lambda *_: (None, plain_step)))

    done, notes = [], []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not notes:
        time.sleep(0.01)
    peers = [Peer(keys, Served(folder, address), name) for name in NAMES]
    assert [peer.join().goodbye for peer in peers] == ["all 2 rounds are done"] * len(NAMES)
    thread.join(20)
    assert done[0].round_num == 2
    assert [report.round_num for report in folder.rounds()] == [2]
    assert notes[0] == f"listening on {address} for 6 enrolled clients; loading TensorFlow"
    with pytest.raises(RunFolderError, match="in use by another process"):
        serve(RunFolder(tmp_path / "run"), config, keys, address, DEADLINES, print)


# --- the encrypted sum: three parties, three keys ---


@contextmanager
def decrypting(keys, min_contributions=2):
    notes = []
    service = DecryptorService(keys, BfvParameters(), min_contributions, notes.append)
    address = f"localhost:{service.listen('localhost:0')}"
    yield address, notes
    service.stop()


@pytest.mark.parametrize("trouble", [None, "hang up", "wrong body"])
def test_the_encrypted_sum_over_connections(keys, tmp_path, trouble):
    config = config_of(**{"aggregation.aggregator": "encrypted"})
    with (
        decrypting(keys) as (address, notes),
        serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served,
    ):
        troubles = {NAMES[1]: {"encrypt": trouble}} if trouble else {}
        peers = [Peer(keys, served, name, troubles.get(name)) for name in NAMES]
        for peer in peers:
            peer.join()
    (report,) = served.rounds
    assert list(report.survivors) == [name for name in NAMES if not trouble or name != NAMES[1]]
    drops = {NAMES[1]: DropStage.BEFORE_UPLOAD} if trouble else {}
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, drops).weights)
    assert notes == ["round 1: a fresh key for one sum", "opened the sum; its key is forgotten"]
    assert report.cost.decryptor["decrypt"].bytes_down > 0


def test_who_sends_junk_in_the_right_form_is_found_and_struck_off(keys, tmp_path):
    """It shows only in the opened sum, which gives nothing: the search takes a few rounds, and the run goes on."""
    config = config_of(num_rounds=9, **{"aggregation.aggregator": "encrypted"})
    with (
        decrypting(keys) as (address, _),
        serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served,
    ):
        liar = NAMES[4]
        peers = [Peer(keys, served, name, {"encrypt": "junk upload"} if name == liar else None) for name in NAMES]
    for peer in peers:
        assert peer.join().error is None
    outcomes = [report.outcome for report in served.rounds]
    assert outcomes[0] == "abandoned"
    assert served.rounds[0].reason == "round 1: total: does not decrypt to a sum"
    assert outcomes.count("abandoned") == 4  # 6, then 3 of whom he is one, then 2, then he
    for report in served.rounds:
        assert liar not in report.survivors
        assert report.outcome == "abandoned" or len(report.survivors) >= 2
    assert list(served.rounds[-1].survivors) == [name for name in NAMES if name != liar]
    assert sum(f"{liar} spoils every sum" in note for note in served.notes) == 1


@pytest.mark.parametrize("aggregator", ["secagg", "encrypted"])
def test_a_server_that_gives_one_client_another_model_gets_no_sum_with_it(keys, tmp_path, aggregator):
    """The client that was told otherwise takes this for its round: what it says fits nobody else's."""
    config = config_of(**{"aggregation.aggregator": aggregator})

    class Deceived(Participant):
        def answer(self, message):
            found = messages.decode(message, messages.TO_CLIENT)
            if isinstance(found, messages.Plan):
                message = encode(msgspec.structs.replace(found, weights=memoryview(bytes(len(found.weights)))))
            return super().answer(message)

    with decrypting(keys) as (address, _):
        decryptor = RemoteDecryptor(address, keys) if aggregator == "encrypted" else None
        with serving(keys, tmp_path, config, decryptor) as served:
            peers = [Peer(keys, served, name, kind=Deceived if name == NAMES[3] else Participant) for name in NAMES]
    for peer in peers:
        peer.join()
    (report,) = served.rounds
    assert NAMES[3] not in report.survivors
    if aggregator == "encrypted":
        assert list(report.survivors) == [name for name in NAMES if name != NAMES[3]]
        assert any(f"upload of {NAMES[3]!r} did not sign this" in note for note in served.notes)
    else:  # nobody can open its shares, so nobody can take its masks off
        assert (report.outcome, report.reason) == ("abandoned", "round 1: 0 good shares of client 3, 4 needed")


def test_the_decryptor_has_its_own_minimum(keys, tmp_path):
    config = config_of(num_rounds=1, **{"aggregation.aggregator": "encrypted"})
    with decrypting(keys, min_contributions=7) as (address, _):
        with serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served:
            peers = [Peer(keys, served, name) for name in NAMES]
        for peer in peers:
            peer.join()
    (report,) = served.rounds
    assert report.outcome == "abandoned"
    assert report.reason == "round 1: 6 contributions, 7 needed"


def test_a_decryptor_refuses_what_is_no_sum(keys):
    with decrypting(keys) as (address, notes):
        remote = RemoteDecryptor(address, keys)
        remote.open_round(1, 100)
        with pytest.raises(Exception, match="^the decryptor opens nothing: Transcript: 7 bytes"):
            remote.decrypt(b"nothing", b"nothing")
    assert len(notes) == 2
    assert notes[1].startswith("refused: ")


# --- what goes wrong before a round ---


def test_a_port_in_use(keys, tmp_path):
    with serving(keys, tmp_path, config_of()) as served:
        hub = Hub(read_roster(keys), b"", 1000)
        with pytest.raises(PortInUse, match="^can't listen on localhost:") as caught:
            hub.listen(served.address, (keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    assert_one_line(caught.value)


def assert_one_line(error):
    assert isinstance(error, NetworkError)
    assert error.exit_code == 2
    assert "\n" not in str(error)


def test_a_server_of_another_authority_an_unknown_client_and_another_key(keys, tmp_path):
    other = tmp_path / "other"
    make_keys(other, [NAMES[0], "stranger"])
    policy = secagg_policy(config_of().aggregation)
    (tmp_path / "text.txt").write_text("See you at the house.\nMy friend")
    text = str(tmp_path / "text.txt")
    with serving(keys, tmp_path, config_of()) as served:
        with pytest.raises(BadCertificate, match="certificate that does not hold") as caught:
            run_client(served.address, other, NAMES[0], text, policy, 0.0)
        assert_one_line(caught.value)
        (other / "ca.pem").write_bytes((keys / "ca.pem").read_bytes())
        with pytest.raises(UnknownClient, match="client 'stranger' is not enrolled") as caught:
            run_client(served.address, other, "stranger", text, policy, 0.0)
        assert_one_line(caught.value)
        with pytest.raises(UnknownClient, match="client 'client0' is enrolled with another key") as caught:
            run_client(served.address, other, NAMES[0], text, policy, 0.0)
        assert_one_line(caught.value)
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    with pytest.raises(ServerGone, match="^nobody answers at localhost:") as caught:
        run_client(served.address, keys, NAMES[0], text, policy, 0.0)
    assert_one_line(caught.value)


def test_an_old_proof_opens_nothing(keys, tmp_path):
    ca, identity = (keys / "ca.pem").read_bytes(), read_identity(keys, NAMES[0])
    with serving(keys, tmp_path, config_of()) as served:
        with open_channel(served.address, ca) as channel:
            nonce = bytes(messages.NONCE_BYTES)  # the server never gave it
            headers = (
                (messages.CLIENT_HEADER, NAMES[0]),
                (messages.NONCE_HEADER, nonce),
                (messages.SIGNATURE_HEADER, identity.sign(messages.proof_bytes(nonce, NAMES[0]))),
            )
            call = channel.stream_stream(messages.JOIN)(iter([]), metadata=headers)
            with pytest.raises(Exception, match="answered an old challenge"):
                next(call)
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)


@pytest.mark.parametrize("server", ["localhost", "localhost:port", "localhost:70000", ":1"])
def test_an_address_that_is_none(keys, server):
    with pytest.raises(NetworkError, match="takes HOST:PORT"):
        check_server(server, (keys / "ca.pem").read_bytes(), 0.0)


def test_a_server_that_dies_leaves_one_line(keys, tmp_path):
    hub = Hub(read_roster(keys), setup_message(config_of(), WORDS), 1 << 20)
    port = hub.listen("localhost:0", (keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
    peer = Peer(keys, Served(RunFolder(tmp_path), f"localhost:{port}"), NAMES[0])
    while not peer.stages:
        time.sleep(0.01)
    hub._server.stop(None).wait()  # as a kill: no goodbye
    assert isinstance(peer.join().error, ServerGone)
    assert_one_line(peer.error)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"aggregation.aggregator": "plain"}, "^aggregation.aggregator = 'plain': over a network"),
        ({"aggregation.aggregator": "encrypted"}, "start `fedkeys decryptor`"),
        ({"rounds.cohort_size": 20}, "has 6 clients enrolled"),
    ],
)
def test_configurations_that_can_t_be_served(keys, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        serve(RunFolder(tmp_path / "run"), config_of(**overrides), keys, "localhost:0", DEADLINES, print)
    assert not (tmp_path / "run").exists()


# --- a client's own rules ---


def plan_of(config, round_num=1):
    return encode(messages.Plan(round_num, 1.0, memoryview(weights_to_bytes(first_state(config).weights))))


def test_a_client_is_summed_once_in_a_round(keys):
    config, client = config_of(), participant(keys, NAMES[0])
    assert client.answer(setup_message(config, WORDS)) is None
    assert stage_of_answer(client.answer(plan_of(config))) == (1, "train")
    with pytest.raises(SessionReplayed):
        client.answer(plan_of(config))
    assert stage_of_answer(client.answer(plan_of(config, 2))) == (2, "train")


def test_a_server_can_t_take_back_its_configuration_or_its_words(keys):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    client.answer(setup_message(config_of(), WORDS))  # the same again, as after a lost connection
    others = Vocabulary((*WORDS.words[:-2], WORDS.words[-1], WORDS.words[-2]))
    for changed in (setup_message(config_of(seed=2), WORDS), setup_message(config_of(), others)):
        with pytest.raises(RunChanged, match="^the server sent another configuration or vocabulary") as caught:
            client.answer(changed)
        assert caught.value.exit_code == 3


def test_all_that_is_said_of_a_round_is_agreed():
    config, setup = config_of(), setup_message(config_of(), WORDS)
    plan = messages.Plan(1, 1.0, memoryview(weights_to_bytes(first_state(config).weights)))
    other = memoryview(bytes(plan.weights[:-1]) + b"\x01")
    digests = {
        messages.agreed_digest(setup, encode(plan)),
        messages.agreed_digest(setup_message(config_of(seed=2), WORDS), encode(plan)),
        messages.agreed_digest(setup, encode(msgspec.structs.replace(plan, round_num=2))),
        messages.agreed_digest(setup, encode(msgspec.structs.replace(plan, learning_rate=0.5))),
        messages.agreed_digest(setup, encode(msgspec.structs.replace(plan, weights=other))),
    }
    assert len(digests) == 5


def test_a_step_of_another_round_than_the_plan_s_is_refused(keys):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    client.answer(plan_of(config_of(), 2))
    with pytest.raises(WireError, match="^round 1, advertise: the server's last plan was for round 2"):
        client.answer(encode(messages.Step(1, "advertise", memoryview(b""))))


def stage_of_answer(message):
    found = messages.decode(message, messages.TO_SERVER)
    return found.round_num, found.stage


@pytest.mark.parametrize("stage", ["advertise", "shares", "upload", "encrypt", "consistency", "unmask", "nonsense"])
def test_a_step_without_what_comes_before_it_is_refused(keys, stage):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    with pytest.raises(Exception, match="^round 1, |no such|Invitation: 0 bytes"):
        client.answer(encode(messages.Step(1, stage, memoryview(b""))))


def test_a_plan_before_the_configuration_and_one_of_another_size(keys):
    client = participant(keys, NAMES[0])
    with pytest.raises(WireError, match="no configuration before"):
        client.answer(plan_of(config_of()))
    client.answer(setup_message(config_of(), WORDS))
    with pytest.raises(WireError, match="raw must hold"):
        client.answer(encode(messages.Plan(1, 1.0, memoryview(b"1234"))))


@pytest.mark.parametrize(
    "setup",
    [
        messages.Setup(b"{", list(WORDS.words)),
        messages.Setup(b'{"seed": "x"}', list(WORDS.words)),
        messages.Setup(msgspec.json.encode(config_of()), ["no", "special", "words"]),
    ],
    ids=["no JSON", "no configuration", "no vocabulary"],
)
def test_a_setup_that_is_none(keys, setup):
    with pytest.raises(WireError, match="^the server's configuration or vocabulary"):
        participant(keys, NAMES[0]).answer(encode(setup))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_one_error(octets):
    for kind in (messages.TO_CLIENT, messages.TO_SERVER, messages.SUM_TO_OPEN, messages.ROUND_TO_OPEN):
        with pytest.raises(WireError, match=f"^{len(octets)} bytes that are no message"):
            messages.decode(octets, kind)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_message_cut_or_changed_raises_at_most_that_error(data):
    good = encode(messages.Step(7, "upload", memoryview(b"some words")))
    place = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good[:place] if data.draw(st.booleans()) else good)
    if len(changed) > place:
        changed[place] ^= data.draw(st.integers(1, 255))
    try:
        found = messages.decode(bytes(changed), messages.TO_CLIENT)
    except WireError:
        return
    assert isinstance(found, (messages.Setup, messages.Plan, messages.Step, messages.Goodbye))


def test_a_message_shows_no_content():
    assert repr(messages.Step(1, "upload", memoryview(b"secret"))) == "Step(...)"


# --- text and keys ---


def test_the_text_of_one_client(tmp_path):
    (tmp_path / "own.txt").write_text("See you. At the house!\n\nmy friend", encoding="utf-8")
    assert read_own_sentences(str(tmp_path / "own.txt"), "anyone") == ("see you", "at the house", "my friend")
    lines = [{"client_id": "ann", "text": "see you"}, {"client_id": "bob", "text": "my friend"}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_own_sentences(str(tmp_path / "all.jsonl"), "bob") == ("my friend",)
    with pytest.raises(CorpusError, match="has no client eve"):
        read_own_sentences(str(tmp_path / "all.jsonl"), "eve")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(CorpusError, match="has no words"):
        read_own_sentences(str(tmp_path / "empty.txt"), "anyone")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CorpusError, match="can't be read as UTF-8"):
        read_own_sentences(str(tmp_path / "latin.txt"), "anyone")


def test_private_keys_are_their_owner_s_alone(keys):
    private = [*keys.glob("*.key"), *(keys / "clients").iterdir()]
    assert len(private) == 4 + len(NAMES)
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


def test_more_clients_are_enrolled_and_the_rest_stays(tmp_path):
    make_keys(tmp_path, ["ann"])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*") if path.name != "roster.json"}
    ann = read_roster(tmp_path)["ann"]
    make_keys(tmp_path, ["bob"])
    assert {path: path.read_bytes() for path in before} == before
    assert read_roster(tmp_path) == {
        "ann": ann,
        "bob": read_identity(tmp_path, "bob").public_key().public_bytes_raw(),
    }
    for again in (["bob"], ["eve", "eve"]):
        with pytest.raises(KeysError, match="is enrolled already"):
            make_keys(tmp_path, again)
    with pytest.raises(KeysError, match="certificate already"):
        make_keys(tmp_path, ["eve"], ["keyboard.example"])
    assert set(read_roster(tmp_path)) == {"ann", "bob"}


@pytest.mark.parametrize("name", ["", "../ann", "a/b", ".ann", "anna maria", "ä", "a" * 65])
def test_a_name_that_can_t_be_a_file_s(tmp_path, keys, name):
    with pytest.raises(KeysError, match="can't be enrolled"):
        make_keys(tmp_path, [name])
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeysError):
        read_identity(keys, name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"schema": 1, "clients": {"ann": "zz"}}',
        b'{"schema": 1, "clients": {"ann": "00"}}',
        b'{"schema": 2, "clients": {}}',
        json.dumps({"schema": 1, "clients": {"ann": "11" * 32, "bob": "11" * 32}}).encode(),
    ],
)
def test_a_damaged_roster(tmp_path, content):
    (tmp_path / "roster.json").write_bytes(content)
    with pytest.raises(KeysError, match=r"roster\.json is damaged"):
        read_roster(tmp_path)


def test_key_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(KeysError, match="make it with `fedkeys keygen"):
        read_roster(tmp_path)
    make_keys(tmp_path, ["ann"])
    (tmp_path / "clients" / "ann.key").write_bytes((tmp_path / "server.key").read_bytes())
    with pytest.raises(KeysError, match="holds no Ed25519 key"):
        read_identity(tmp_path, "ann")
    (tmp_path / "clients" / "ann.key").write_text("no key")
    with pytest.raises(KeysError, match="holds no private key"):
        read_identity(tmp_path, "ann")
    (tmp_path / "decryptor_identity.pub").write_text("no key")
    with pytest.raises(KeysError, match="is damaged"):
        read_decryptor(tmp_path)


def test_a_host_of_its_own_is_in_the_certificates(tmp_path):
    from cryptography import x509

    make_keys(tmp_path, [], ["keyboard.example", "192.0.2.7"])
    for role in ("server", "decryptor"):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{role}.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", "keyboard.example"]
        assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.7"]


def test_no_secret_is_in_a_repr(keys):
    client = participant(keys, NAMES[0])
    secret = read_identity(keys, NAMES[0]).private_bytes_raw().hex()
    assert secret not in repr(client)
    assert isinstance(read_identity(keys, NAMES[0]), Ed25519PrivateKey)

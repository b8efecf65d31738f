"""The split sum over connections: one message of each client, and helpers who answer the server only."""

from __future__ import annotations

import hashlib

import grpc
import msgspec
import numpy as np
import pytest
from loopback import (
    NAMES,
    WORDS,
    Peer,
    config_of,
    first_state,
    helping,
    in_one_process,
    participant,
    plan_of,
    serving,
)

from orchestrator.aggregator import DropStage
from orchestrator.errors import BelowThreshold, ConfigError
from orchestrator.network import messages
from orchestrator.network.authority import make_helper_key, make_keys
from orchestrator.network.certificates import read_helpers
from orchestrator.network.channel import open_channel
from orchestrator.network.client import Participant
from orchestrator.network.errors import BadCertificate, DemandRefused, KeysError, WireError
from orchestrator.network.helper import RemoteHelper, helper_service
from orchestrator.network.serve import serve
from orchestrator.network.server import setup_message
from orchestrator.network.tls import Tls
from orchestrator.rounds.round import weights_digest
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import run_digest
from orchestrator.split import messages as split_messages
from orchestrator.split.errors import MalformedMessage
from orchestrator.split.hpke import seal
from orchestrator.split.opened import OpenedRounds
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)

SPLIT = {"aggregation.aggregator": "split"}


def run_of(config):
    return run_digest(config, WORDS)


@pytest.mark.parametrize("trouble", [None, "hang up", "wrong body"])
def test_the_split_sum_over_connections(keys, tmp_path, trouble):
    config = config_of(num_rounds=1 if trouble else 2, **SPLIT)
    with helping(keys, tmp_path, run_of(config)) as (helpers, notes):
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            troubles = {NAMES[1]: {"train": trouble}} if trouble else {}
            peers = [Peer(keys, served, name, troubles.get(name), aggregator="split") for name in NAMES]
        for peer in peers:
            peer.join()
    first, *later = served.rounds
    assert list(first.survivors) == [name for name in NAMES if not trouble or name != NAMES[1]]
    drops = {NAMES[1]: DropStage.BEFORE_UPLOAD} if trouble else {}
    assert first.weights_sha256 == weights_digest(in_one_process(config, first_state(config), first, drops).weights)
    assert all(report.outcome == "completed" for report in later)
    beginning, *opened = notes
    assert beginning.endswith(".sqlite is new")
    assert all(note.startswith("opened the masks of a list") for note in opened)
    assert len(opened) == config.rounds.count
    assert peers[0].stages == ["Setup", *["train"] * config.rounds.count, "Goodbye"]  # one message in each round
    assert first.cost.helpers["open"].bytes_down > 0
    assert first.cost.per_client["upload"].bytes_up > 4 * 100


def test_groups_are_summed_one_after_the_other(keys, tmp_path):
    """Three lists of two clients a round, and the median of their means: as in one process, bit for bit."""
    config = config_of(num_rounds=2, **SPLIT, **{"aggregation.groups": 3})
    with helping(keys, tmp_path, run_of(config)) as (helpers, notes):
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, aggregator="split") for name in NAMES]
        assert all(peer.join().goodbye for peer in peers)
    assert [set(report.survivors) for report in served.rounds] == [set(NAMES)] * 2
    assert len(notes[1:]) == 6
    report = served.rounds[0]
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, {}).weights)
    assert report.cost.helpers["open"].bytes_up > 3 * 4 * 100


def test_a_client_that_was_sent_another_model_is_left_out(keys, tmp_path):
    class Deceived(Participant):
        def answer(self, message):
            found = messages.decode(message, messages.TO_CLIENT)
            if isinstance(found, messages.Plan):
                message = encode(msgspec.structs.replace(found, weights=memoryview(bytes(len(found.weights)))))
            return super().answer(message)

    config, kinds = config_of(**SPLIT), {NAMES[3]: Deceived}
    with (
        helping(keys, tmp_path, run_of(config)) as (helpers, _),
        serving(keys, tmp_path, config, helpers=helpers) as served,
    ):
        peers = [Peer(keys, served, name, kind=kinds.get(name, Participant), aggregator="split") for name in NAMES]
    for peer in peers:
        peer.join()
    (report,) = served.rounds
    assert list(report.survivors) == [name for name in NAMES if name != NAMES[3]]
    assert any(f"upload of {NAMES[3]!r}: the client did not sign just this" in note for note in served.notes)


class SealsGarbage(Participant):
    """A client that is enrolled and signs what it sends: a seal that opens for nobody."""

    def _mask(self, plan, vector):
        upload = split_messages.decode(super()._mask(plan, vector), split_messages.Upload, 1 << 20)
        words, sealed = self.lie(upload, plan.round_num)
        seals = [hashlib.sha256(sealed).digest()]
        signature = self._identity.sign(self.stated(upload, words).signed_bytes(seals))
        return encode(msgspec.structs.replace(upload, sealed=[sealed], words=memoryview(words), signature=signature))

    def stated(self, upload, words):
        digest = hashlib.sha256(words).digest()
        return split_messages.Statement(upload.terms, upload.version, self._agreed, digest, upload.client_id)

    def lie(self, upload, round_num):
        return upload.words, bytes(split_messages.SEALED_BYTES)


class SendsOtherWords(SealsGarbage):
    """A client whose words are not those that its seed unmasks."""

    def lie(self, upload, round_num):
        words = np.random.default_rng(round_num).bytes(len(upload.words))
        stated = self.stated(upload, words)
        return words, seal(self._helpers[0], stated.seal_info(0), bytes(32), aad=stated.words_sha256)


@pytest.mark.parametrize(
    ("kind", "num_rounds", "lost", "note"),
    [(SealsGarbage, 2, 1, "seals seeds that do not open"), (SendsOtherWords, 9, 3, "spoils every sum")],
)
def test_a_client_that_spoils_a_round_is_found_and_struck_off(keys, tmp_path, kind, num_rounds, lost, note):
    liar = NAMES[4]
    config = config_of(num_rounds=num_rounds, **SPLIT)
    with helping(keys, tmp_path, run_of(config)) as (helpers, _):
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [
                Peer(keys, served, name, kind=kind if name == liar else Participant, aggregator="split")
                for name in NAMES
            ]
        for peer in peers:
            assert peer.join().error is None
    outcomes = [report.outcome for report in served.rounds]
    assert outcomes[0] == "abandoned"
    assert outcomes.count("abandoned") == lost
    assert all(liar not in report.survivors for report in served.rounds)
    assert list(served.rounds[-1].survivors) == [name for name in NAMES if name != liar]
    assert sum(f"{liar} {note}" in line for line in served.notes) == 1


def test_a_helper_has_its_own_minimum(keys, tmp_path):
    config = config_of(**SPLIT)
    with helping(keys, tmp_path, run_of(config), min_contributions=7) as (helpers, notes):
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, aggregator="split") for name in NAMES]
        for peer in peers:
            peer.join()
    (report,) = served.rounds
    assert report.outcome == "abandoned"
    assert report.reason.endswith("opens nothing: round 1: a list of 6 clients, 7 needed")
    assert notes[1:] == ["refused: round 1: a list of 6 clients, 7 needed"]


def test_a_round_that_a_helper_has_opened_before_is_lost_and_the_next_goes_on(keys, tmp_path):
    config = config_of(num_rounds=2, **SPLIT)
    before = OpenedRounds(tmp_path / "opened-1.sqlite")
    before.add(bytes.fromhex(run_of(config)), 1, 0, bytes(32), NAMES)
    before.close()
    with helping(keys, tmp_path, run_of(config)) as (helpers, notes):
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, aggregator="split") for name in NAMES]
        for peer in peers:
            peer.join()
    assert notes[0].endswith("opened-1.sqlite: 1 list opened before")
    lost, next_one = served.rounds
    assert lost.reason.endswith(
        "opens nothing: round 1 was opened before: a round or group has one list, and a client is in one of them"
    )
    assert lost.weights_sha256 == weights_digest(first_state(config).weights)
    assert next_one.outcome == "completed"


def test_a_helper_answers_the_server_only(keys, tmp_path):
    """Neither another role's certificate, nor a client's, gets a word of it."""
    notes = []
    service = helper_service(keys, 1, tmp_path / "opened.sqlite", 2, notes.append)
    address = f"localhost:{service.listen('localhost:0')}"
    try:
        with (
            open_channel(address, Tls.of_client(keys, NAMES[0]), "helper-1") as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            channel.unary_unary(messages.OPEN_MASKS)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert notes[1:] == ["refused a call that is not the server's"]
        remote = RemoteHelper(address, keys, 1, 10.0)
        with pytest.raises(BelowThreshold, match="opens nothing: MaskRequest: 0 bytes"):
            remote.open(b"")
        with pytest.raises(BadCertificate, match="is not the helper-2's"):
            RemoteHelper(address, keys, 2, 10.0)
    finally:
        service.stop()


def test_a_helper_that_stays_away_ends_the_round_and_not_the_run(keys, tmp_path):
    service = helper_service(keys, 1, tmp_path / "opened.sqlite", 2, lambda note: None)
    remote = RemoteHelper(f"localhost:{service.listen('localhost:0')}", keys, 1, wait_s=0.5)
    service.stop()
    with pytest.raises(BelowThreshold, match=r"helper 1 at localhost:\d+ has not answered in 0.5 s"):
        remote.open(b"list")


def test_a_client_takes_part_with_all_its_helpers_or_not_at_all(keys, tmp_path):
    """A server can't leave one out, so that fewer would have to collude."""
    config = config_of(**SPLIT, **{"aggregation.helpers": 2})
    client = participant(keys, NAMES[0], aggregator="split")
    with pytest.raises(DemandRefused, match="the server's run has 2 helpers, this client's helpers.pub names 1"):
        client.answer(setup_message(config, WORDS))
    client = participant(keys, NAMES[0], aggregator="split")
    client.answer(setup_message(config_of(**SPLIT), WORDS))
    with pytest.raises(MalformedMessage):  # a plan without terms
        client.answer(plan_of(config_of(**SPLIT)))


def test_what_a_server_needs_for_the_split_sum(keys, tmp_path):
    for overrides, addresses, message in (
        ({"aggregation.helpers": 2}, ["localhost:1"], "helpers.pub names 1: clients seal for all of them"),
        ({}, [], "start `fedkeys helper` for each and name all by --helper, in their order; 0 are named"),
        ({}, ["localhost:1", "localhost:2"], "2 are named"),
    ):
        config = config_of(**SPLIT, **overrides)
        with pytest.raises(ConfigError, match=message):
            serve(RunFolder(tmp_path / "run"), config, keys, "localhost:0", None, print, helper_addresses=addresses)


def test_the_helpers_keys_are_read_as_they_were_made(tmp_path):
    make_keys(tmp_path, ["ann"], num_helpers=3)
    public = read_helpers(tmp_path)
    assert len(set(public)) == 3
    path = tmp_path / "helpers.pub"
    assert path.read_text() == "".join(key.hex() + "\n" for key in public)
    small_order, good = bytes(32).hex(), public[0].hex()
    for text in ("", "no key", good[2:], f"{good}\n{good}", f"{good}\n{small_order}"):
        path.write_text(text)
        with pytest.raises(KeysError, match="helpers.pub is damaged: restore it"):
            read_helpers(tmp_path)
    path.unlink()
    with pytest.raises(KeysError, match="make it with `fedkeys keygen"):
        read_helpers(tmp_path)
    (tmp_path / "helper-1_seal.key").write_text("no key")
    with pytest.raises(KeysError):
        helper_service(tmp_path, 1, tmp_path / "opened.sqlite", 2, print)


def test_a_helper_keeps_the_key_that_it_made(tmp_path):
    """The operator's folder holds the public halves, and certificates for TLS."""
    public = [make_helper_key(tmp_path / f"helper{number}", number) for number in (1, 2)]
    assert make_helper_key(tmp_path / "helper1", 1) == public[0]  # called again: the same
    folder = tmp_path / "keys"
    make_keys(folder, ["ann"], helper_keys=public)
    assert read_helpers(folder) == tuple(public)
    assert not list(folder.glob("*_seal.key"))
    for name in ("ca.pem", "roster.json", "helpers.pub", "helper-2.pem", "helper-2.key"):
        (tmp_path / "helper2" / name).write_bytes((folder / name).read_bytes())
    service = helper_service(tmp_path / "helper2", 2, tmp_path / "opened.sqlite", 2, print)
    remote = RemoteHelper(f"localhost:{service.listen('localhost:0')}", folder, 2, 10.0)
    with pytest.raises(BelowThreshold, match="opens nothing"):
        remote.open(b"no list")
    service.stop()
    with pytest.raises(KeysError, match="its parties' keys already"):
        make_keys(folder, [], helper_keys=public)


def test_an_answer_that_is_none_is_refused(keys):
    with pytest.raises(WireError):
        messages.decode(b"no answer", messages.FROM_HELPER)

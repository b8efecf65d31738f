"""The encrypted sum over connections: three parties, three keys."""

from __future__ import annotations

import msgspec
import pytest
from loopback import NAMES, Peer, config_of, decrypting, first_state, in_one_process, serving

from orchestrator.aggregator import DropStage
from orchestrator.network import messages
from orchestrator.network.client import Participant
from orchestrator.network.decryptor import RemoteDecryptor
from orchestrator.rounds.round import weights_digest
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("trouble", [None, "hang up", "wrong body"])
def test_the_encrypted_sum_over_connections(keys, tmp_path, trouble):
    config = config_of(**{"aggregation.aggregator": "encrypted"})
    with (
        decrypting(keys) as (address, notes),
        serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served,
    ):
        troubles = {NAMES[1]: {"encrypt": trouble}} if trouble else {}
        peers = [Peer(keys, served, name, troubles.get(name), aggregator="encrypted") for name in NAMES]
        for peer in peers:
            peer.join()
    (report,) = served.rounds
    assert list(report.survivors) == [name for name in NAMES if not trouble or name != NAMES[1]]
    drops = {NAMES[1]: DropStage.BEFORE_UPLOAD} if trouble else {}
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, drops).weights)
    assert notes == ["round 1: a fresh key for one sum", "opened the sum; its key is forgotten"]
    assert report.cost.decryptor["decrypt"].bytes_down > 0


def test_groups_are_summed_one_after_the_other(keys, tmp_path):
    """Three sums of two clients a round, and the median of their means: as in one process, bit for bit."""
    config = config_of(num_rounds=2, **{"aggregation.aggregator": "encrypted", "aggregation.groups": 3})
    with (
        decrypting(keys) as (address, notes),
        serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served,
    ):
        peers = [Peer(keys, served, name, aggregator="encrypted") for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    assert [set(report.survivors) for report in served.rounds] == [set(NAMES)] * 2
    assert notes.count("opened the sum; its key is forgotten") == 6
    report = served.rounds[0]
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, {}).weights)
    assert report.cost.server["encrypt"].bytes_down > 5 * report.cost.per_client["encrypt"].bytes_up


def test_who_sends_junk_in_the_right_form_is_found_and_struck_off(keys, tmp_path):
    """It shows only in the opened sum, which gives nothing: the search takes a few rounds, and the run goes on."""
    config = config_of(num_rounds=9, **{"aggregation.aggregator": "encrypted"})
    with (
        decrypting(keys) as (address, _),
        serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served,
    ):
        liar = NAMES[4]
        troubles = {liar: {"encrypt": "junk upload"}}
        peers = [Peer(keys, served, name, troubles.get(name), aggregator="encrypted") for name in NAMES]
    for peer in peers:
        assert peer.join().error is None
    outcomes = [report.outcome for report in served.rounds]
    assert outcomes[0] == "abandoned"
    assert served.rounds[0].reason == "round 1: total: does not decrypt to a sum"
    assert outcomes.count("abandoned") == 3  # 6, then 3 of whom he is one, then he with good ones
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
            kinds = {NAMES[3]: Deceived}
            peers = [
                Peer(keys, served, name, kind=kinds.get(name, Participant), aggregator=aggregator) for name in NAMES
            ]
    for peer in peers:
        peer.join()
    (report,) = served.rounds
    assert NAMES[3] not in report.survivors
    if aggregator == "encrypted":
        assert list(report.survivors) == [name for name in NAMES if name != NAMES[3]]
        assert any(f"upload of {NAMES[3]!r} did not sign this" in note for note in served.notes)
    else:  # nobody can open its shares, so nobody can take its masks off
        assert (report.outcome, report.reason) == (
            "abandoned",
            "round 1: client3: client 3 dealt 5 clients 0 good shares, 4 needed",
        )


def test_the_decryptor_has_its_own_minimum(keys, tmp_path):
    config = config_of(num_rounds=1, **{"aggregation.aggregator": "encrypted"})
    with decrypting(keys, min_contributions=7) as (address, _):
        with serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served:
            peers = [Peer(keys, served, name, aggregator="encrypted") for name in NAMES]
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

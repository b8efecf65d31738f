"""Rounds over real connections give what they give in one process, whoever vanishes, is late or lies."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from loopback import (
    CROWD,
    NAMES,
    SHORT,
    STAGES,
    WORDS,
    Peer,
    config_of,
    first_state,
    in_one_process,
    participant,
    serving,
    text_trainer,
    wait_until,
)

from orchestrator.aggregator import Cohort, DropStage
from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.client import Participant
from orchestrator.network.session import Deadlines
from orchestrator.rounds.build import (
    build_aggregator,
    build_encoder,
    model_size,
)
from orchestrator.rounds.round import weights_digest
from orchestrator.secagg.errors import WeakParameters
from orchestrator.secagg.graph import Policy
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


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


NINE = CROWD[:9]


@pytest.mark.parametrize("gone", [None, NINE[4]])
def test_groups_are_summed_one_after_the_other(tmp_path, gone):
    """Three sums of three clients a round, and the median of their means: as in one process, bit for bit.

    Of three clients none may vanish: the group of one who does is left out, and the median is of the two others.
    """
    keys, config = tmp_path / "keys", config_of(**{"rounds.cohort_size": 9, "aggregation.groups": 3})
    make_keys(keys, NINE)
    with serving(keys, tmp_path, config) as served:
        peers = [Peer(keys, served, name, {"upload": "hang up"} if name == gone else None) for name in NINE]
    assert [peer.join().goodbye for peer in peers] == [None if name == gone else "all done" for name in NINE]
    (report,) = served.rounds
    assert (report.outcome, len(report.survivors)) == ("completed", 6 if gone else 9)
    assert set(report.selected) == set(NINE)
    drops = {gone: DropStage.BEFORE_UPLOAD} if gone else {}
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, drops).weights)
    one_sum = config_of(**{"rounds.cohort_size": 9})
    assert report.weights_sha256 != weights_digest(in_one_process(one_sum, first_state(config), report, drops).weights)
    assert all(peer.stages.count("train") == 1 for peer in peers)  # in one group each, and asked once


def constant_trainer(value):
    """A trainer whose update is the same number in every weight."""

    def build(config, size):
        delta = tuple(np.full(shape, value, np.float32) for shape in size.shapes)
        return lambda weights, rate, seed, batches: {
            "delta": delta, "is_finite": True, "num_tokens": batches.num_tokens, "num_examples": batches.num_examples
        }  # fmt: skip

    return build


@pytest.mark.parametrize(("gone", "step"), [(None, 0.035), (NAMES[2], 0.036)])
def test_the_weights_move_by_the_mean_of_the_survivors_updates(keys, tmp_path, gone, step):
    """Updates of 0.01, 0.02 .. 0.06: their mean is 0.035, and without the third 0.18 / 5 = 0.036."""
    config = config_of(
        **{
            "client.weighting": "equal",
            "aggregation.clip_norm": 10.0,
            "server.learning_rate": 1.0,
            "server.schedule": "constant",
        }
    )
    with serving(keys, tmp_path, config) as served:
        for i, name in enumerate(NAMES):
            trouble = {"upload": "hang up"} if name == gone else None
            Peer(keys, served, name, trouble, load_trainer=constant_trainer(0.01 * (i + 1)))
    for before, after in zip(first_state(config).weights, served.state.weights):
        np.testing.assert_allclose(before - after, step, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ("false commitment", "dealt shares of another secret than it committed to"),
        ("seals for nobody", "dealt 5 clients 0 good shares, 4 needed"),
        ("seals for few", "dealt 5 clients 2 good shares, 4 needed"),
        ("false tags", "dealt 5 clients 0 good shares, 4 needed"),
    ],
)
def test_who_deals_shares_that_recover_nothing_costs_one_round(keys, tmp_path, lie, what):
    with serving(keys, tmp_path, config_of(num_rounds=3)) as served:
        peers = [Peer(keys, served, name, {"shares": lie} if name == NAMES[2] else None) for name in NAMES]
    assert [peer.join().error for peer in peers] == [None] * len(NAMES)
    first, *others = served.rounds
    assert first.outcome == "abandoned"
    assert first.reason == f"round 1: client2: client 2 {what}"
    assert [list(report.survivors) for report in others] == [[name for name in NAMES if name != NAMES[2]]] * 2
    assert "round 1: client2 deals shares that recover nothing: struck off from here on" in served.notes


@pytest.mark.parametrize("lie", ["random words", "weights that cancel", "nearly no weights"])
def test_who_sends_a_vector_that_no_update_encodes_to_is_found_and_struck_off(keys, tmp_path, lie):
    """Nothing says whose vector spoiled a sum: 6 clients, then 3 of whom it is one, then it with good ones."""
    config = config_of(num_rounds=8, **{"client.weighting": "equal"})
    liar = NAMES[4]
    with serving(keys, tmp_path, config) as served:
        peers = [Peer(keys, served, name, {"upload": lie} if name == liar else None) for name in NAMES]
    assert [peer.join().error for peer in peers] == [None] * len(NAMES)
    first, *_, last = served.rounds
    assert first.outcome == "abandoned"
    assert "honest ones" in first.reason
    assert all(liar not in report.survivors for report in served.rounds)
    assert list(last.survivors) == [name for name in NAMES if name != liar]
    assert [note for note in served.notes if "struck off" in note][0].partition(": ")[2].startswith(liar)


def test_a_client_that_comes_back_replaces_its_lost_connection(keys, tmp_path):
    config = config_of()
    with serving(keys, tmp_path, config) as served:
        lost = Peer(keys, served, NAMES[0])
        wait_until(lambda: lost.stages)
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
        wait_until(lambda: served.notes)
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


def test_nothing_that_a_client_sends_tells_that_its_update_is_not_finite(keys, tmp_path):
    def broken(config, size):
        good = text_trainer(config, size)
        return lambda *args: {**good(*args), "is_finite": False}

    with serving(keys, tmp_path, config_of()) as served:
        peers = [Peer(keys, served, name) for name in NAMES[1:]]
        peers.append(Peer(keys, served, NAMES[0], load_trainer=broken))
    assert all(peer.join().goodbye for peer in peers)
    (report,) = served.rounds
    assert list(report.survivors) == list(NAMES)
    assert not any(NAMES[0] in note for note in served.notes)
    state = in_one_process(config_of(), first_state(config_of()), report, {NAMES[0]: DropStage.BEFORE_SHARES})
    assert report.weights_sha256 == weights_digest(state.weights), "its zeros of weight 0 count for nothing"


def test_a_client_refuses_a_server_with_laxer_rules(keys, tmp_path):
    with serving(keys, tmp_path, config_of()) as served:
        peers = [Peer(keys, served, name) for name in NAMES[1:]]
        strict = Peer(keys, served, NAMES[0], policy=Policy(corrupt_share=0.4, dropout_share=0.1))
    assert isinstance(strict.join().error, WeakParameters)
    assert strict.error.exit_code == 3
    assert all(peer.join().goodbye for peer in peers)
    assert list(served.rounds[0].survivors) == list(NAMES[1:])


def test_what_a_client_says_stands_in_the_log_as_one_line(keys, tmp_path):
    class Rude(Participant):
        def answer(self, message):
            found = messages.decode(message, messages.TO_CLIENT)
            if isinstance(found, messages.Plan):
                return encode(messages.Decline(found.round_num, "train", "no\n\x1b[2Jround 1: ann struck off\u202e"))
            return super().answer(message)

    with serving(keys, tmp_path, config_of()) as served:
        peers = [Peer(keys, served, name, kind=Rude if name == NAMES[0] else Participant) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    assert "round 1, train: without client0: it declines: no\\n\\x1b[2Jround 1: ann struck off\\u202e" in served.notes


def test_what_a_server_says_at_the_end_is_one_line(keys):
    client = participant(keys, NAMES[0])
    client.answer(encode(messages.Goodbye("done\n\x1b]0;owned\x07")))
    assert client.goodbye == "done\\n\\x1b]0;owned\\x07"

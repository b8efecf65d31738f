"""Browsers' clients beside Python's: the sum is that of the same updates in one process, to the last bit."""

from __future__ import annotations

import threading

import pytest
from loopback import (
    NAMES,
    STAGES,
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
from node_client import NodeParticipant, Refused, needs_node
from web_peer import a_door

from orchestrator.aggregator import DropStage
from orchestrator.network.authority import make_keys
from orchestrator.network.server import setup_message
from orchestrator.rounds.round import weights_digest
from orchestrator.run.identity import run_digest

pytestmark = [pytest.mark.timeout(120), needs_node]
BROWSERS = (NAMES[0], NAMES[2], NAMES[5])


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, NAMES)
    return folder


def plain_round(num_rounds, state, report, drops=()):
    """The state after a plain sum of the same updates in this process."""
    plain = config_of(num_rounds=num_rounds, **{"aggregation.aggregator": "plain"})
    return in_one_process(plain, state, report, dict(drops))


def peers_of(keys, served, trouble, **changes):
    """A client for each name; `trouble` is {client: what it does}."""
    kinds = {name: {"kind": NodeParticipant} if name in BROWSERS else {} for name in NAMES}
    return [Peer(keys, served, name, trouble.get(name), **kinds[name], **changes) for name in NAMES]


def join(peers):
    for peer in peers:
        peer.join()
        if isinstance(peer._participant, NodeParticipant):
            peer._participant.close()


def test_rounds_of_both_kinds_of_clients_give_the_plain_sum(keys, tmp_path):
    config = config_of(num_rounds=2)
    with serving(keys, tmp_path, config) as served:
        peers = peers_of(keys, served, {})
    join(peers)
    assert [(peer.error, peer.goodbye) for peer in peers] == [(None, "all done")] * len(NAMES)
    state = first_state(config)
    for report in served.rounds:
        assert list(report.survivors) == list(NAMES)
        state = plain_round(2, state, report)
        assert report.weights_sha256 == weights_digest(state.model)


@pytest.mark.parametrize(("num_helpers", "gone"), [(1, None), (2, BROWSERS[1])])
def test_the_split_sum_of_both_kinds_of_clients_is_the_plain_sum(tmp_path, num_helpers, gone):
    """One message of each client, which helpers open that know only what Python's clients send."""
    folder, settings = tmp_path / "keys", {"aggregation.aggregator": "split", "aggregation.helpers": num_helpers}
    make_keys(folder, NAMES, num_helpers=num_helpers)
    config = config_of(num_rounds=1 if gone else 2, **settings)
    trouble = {gone: {"train": "hang up"}} if gone else {}
    with helping(folder, tmp_path, run_digest(config, WORDS), num_helpers=num_helpers) as (helpers, _):
        with serving(folder, tmp_path, config, helpers=helpers) as served:
            peers = peers_of(folder, served, trouble, aggregator="split")
        join(peers)
    assert [(peer.error, peer.goodbye) for peer in peers if peer._name != gone] == [(None, "all done")] * (
        len(NAMES) - len(trouble)
    )
    state, drops = first_state(config), {gone: DropStage.BEFORE_UPLOAD} if gone else {}
    for report in served.rounds:
        assert list(report.survivors) == [name for name in NAMES if name != gone]
        state = plain_round(config.rounds.count, state, report, drops)
        assert report.weights_sha256 == weights_digest(state.model)
    browser = peers[NAMES.index(BROWSERS[0])]
    assert browser.stages == ["Setup", *["train"] * config.rounds.count, "Goodbye"]


@pytest.mark.parametrize(("gone", "stage"), [*((BROWSERS[1], stage) for stage in STAGES), (NAMES[1], "upload")])
def test_who_is_gone_at_a_stage_is_left_out_of_the_sum(keys, tmp_path, gone, stage):
    config = config_of(num_rounds=1)
    with serving(keys, tmp_path, config) as served:
        peers = peers_of(keys, served, {gone: {stage: "hang up"}})
    join(peers)
    (report,) = served.rounds
    counts = stage in ("consistency", "unmask")  # its vector had arrived
    assert report.outcome == "completed", report.reason
    assert list(report.survivors) == [name for name in NAMES if counts or name != gone]
    drops = {} if counts else {gone: DropStage.BEFORE_UPLOAD}
    assert report.weights_sha256 == weights_digest(plain_round(1, first_state(config), report, drops).weights)


def test_browsers_come_through_the_web_door(keys, tmp_path):
    """The TypeScript client's own WebSocket, challenge and goodbye, against the server's door."""
    config, ends = config_of(num_rounds=2), {}
    browsers = {name: participant(keys, name, kind=NodeParticipant) for name in BROWSERS}

    def take_part(name, url):
        ends[name] = browsers[name].take_part(url, setup_message(config, WORDS))

    with a_door() as (door, url), serving(keys, tmp_path, config, web=door) as served:
        address = url.replace("http:", "ws:") + "/rounds"
        threads = [threading.Thread(target=take_part, args=(name, address)) for name in BROWSERS]
        for thread in threads:
            thread.start()
        peers = [Peer(keys, served, name) for name in NAMES if name not in BROWSERS]
        for thread in threads:
            thread.join(60)
    join(peers)
    for browser in browsers.values():
        browser.close()
    assert ends == dict.fromkeys(BROWSERS, "all done")
    state = first_state(config)
    for report in served.rounds:
        assert list(report.survivors) == list(NAMES)
        state = plain_round(2, state, report)
        assert report.weights_sha256 == weights_digest(state.model)


class _Stranger(NodeParticipant):
    """A client under a name that is not on the server's roster."""

    def __init__(self, client_id, *rest, **others):
        super().__init__("mallory", *rest, **others)


def test_a_browser_that_is_not_enrolled_is_told_one_sentence(keys, tmp_path):
    with a_door() as (door, url):
        config = config_of(num_rounds=1)
        stranger = participant(keys, NAMES[0], kind=_Stranger)
        with serving(keys, tmp_path, config, web=door) as served:
            with pytest.raises(Refused, match="^the server did not let this browser in") as caught:
                stranger.take_part(url.replace("http:", "ws:") + "/rounds", setup_message(config, WORDS))
            peers = [Peer(keys, served, name) for name in NAMES]
        join(peers)
    stranger.close()
    assert caught.value.name == "DoorError"


def test_a_browser_refuses_what_python_s_client_refuses(keys):
    browser = participant(keys, NAMES[0], kind=NodeParticipant)
    browser.answer(setup_message(config_of(), WORDS))
    browser.answer(plan_of(config_of()))
    with pytest.raises(Refused, match="^round 1 came before") as caught:
        browser.answer(plan_of(config_of()))
    assert caught.value.name == "SessionReplayed"
    browser.close()

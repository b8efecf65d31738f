"""Rounds in which some clients come over WebSocket and some over gRPC give what they give in one process."""

from __future__ import annotations

import pytest
from loopback import NAMES, STAGES, Peer, config_of, first_state, in_one_process, serving
from web_peer import WebPeer, a_door

from orchestrator.aggregator import DropStage
from orchestrator.rounds.round import weights_digest

pytestmark = pytest.mark.timeout(60)
WEB = NAMES[:3]


@pytest.fixture
def door():
    with a_door() as (door, url):
        yield door, url


def peers_of(keys, served, url, leaves_at=None):
    """Half of the clients behind each door; the first of the web's leaves at a stage."""
    web = [WebPeer(keys, url, name, leaves_at if name == WEB[0] else None) for name in WEB]
    return web, [Peer(keys, served, name) for name in NAMES[3:]]


def test_clients_of_both_doors_give_the_weights_of_one_process_to_the_bit(keys, tmp_path, door):
    config = config_of(num_rounds=2)
    with serving(keys, tmp_path, config, web=door[0]) as served:
        web, grpc = peers_of(keys, served, door[1])
    assert [peer.join().goodbye for peer in (*web, *grpc)] == ["all done"] * len(NAMES)
    state = first_state(config)
    for report in served.rounds:
        assert list(report.survivors) == list(NAMES)
        state = in_one_process(config, state, report, {})
        assert report.weights_sha256 == weights_digest(state.model)


@pytest.mark.parametrize("stage", STAGES)
def test_a_page_that_is_closed_at_a_stage_is_left_out_and_the_rest_finish(keys, tmp_path, door, stage):
    config = config_of()
    with serving(keys, tmp_path, config, web=door[0]) as served:
        web, grpc = peers_of(keys, served, door[1], leaves_at=stage)
    for peer in (*web, *grpc):
        peer.join()
    (report,) = served.rounds
    counts = stage in ("consistency", "unmask")  # its vector had arrived
    assert report.outcome == "completed", report.reason
    assert list(report.survivors) == [name for name in NAMES if counts or name != WEB[0]]
    drops = {} if counts else {WEB[0]: DropStage.BEFORE_UPLOAD}
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, drops).weights)

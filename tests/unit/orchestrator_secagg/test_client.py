"""A client takes the next message only, and gives each secret away once."""

from __future__ import annotations

import numpy as np
import pytest
from secagg_session import SERVER_MESSAGES, STAGES, Session, changed, opened, refuses

from orchestrator.secagg import messages
from orchestrator.secagg.errors import (
    UnexpectedMessage,
    WireError,
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_takes_only_the_next_message(stage):
    """Each of the other four methods is refused and changes nothing."""
    session = Session()
    wires = session.until(stage)
    for other in STAGES:
        if other != stage:
            with pytest.raises(UnexpectedMessage, match="the client waits for"):
                session.answer(0, other, wires[0])
    for index, wire in wires.items():
        session.server.receive(index, session.answer(index, stage, wire))
    assert np.array_equal(session.finish(after=stage)[0], session.sum_of(range(5)))


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_refuses_garbage(stage):
    session = Session()
    wire = session.until(stage)[0]
    refuses(session, 0, stage, wire[:-1], WireError)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_client_refuses_what_is_meant_for_another_client_or_session(stage):
    session = Session()
    wires = session.until(stage)
    refuses(session, 0, stage, wires[1], UnexpectedMessage)
    refuses(session, 2, stage, changed(wires[2], SERVER_MESSAGES[stage], session=bytes(32)), UnexpectedMessage)


def test_a_client_unmasks_once():
    session = Session()
    wire = session.until("unmask")[0]
    session.answer(0, "unmask", wire)
    with pytest.raises(UnexpectedMessage, match="it has unmasked"):
        session.answer(0, "unmask", wire)
    other = changed(wire, messages.UnmaskRequest, alive=[], dead=[])
    with pytest.raises(UnexpectedMessage, match="it has unmasked"):
        session.answer(0, "unmask", other)


def test_a_client_reveals_one_secret_of_a_neighbour_and_never_its_own():
    session = Session()
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={4})
    session.run("consent")
    for index, wire in session.outgoing("unmask").items():
        answer = opened(session.answer(index, "unmask", wire), messages.Unmasking)
        assert {share.owner for share in answer.seed_shares} == {0, 1, 2, 3} - {index}
        assert {share.owner for share in answer.key_shares} == {4}


def test_a_vector_of_another_shape_is_an_error_of_the_caller():
    session = Session()
    wire = session.until("mask")[0]
    session.vectors = session.vectors.astype(np.int64)
    with pytest.raises(ValueError, match=r"vector must be uint32 \[50\], got int64 \[50\]"):
        session.answer(0, "mask", wire)

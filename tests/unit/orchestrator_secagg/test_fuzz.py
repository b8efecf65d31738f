"""Changed bytes are refused by an error of the protocol, by server and clients alike."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_session import STAGES, Session

from orchestrator.secagg.errors import (
    SecAggError,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), stage=st.sampled_from(STAGES))
def test_fuzz_what_the_server_receives(data, stage):
    """300 messages, each changed in up to three places, at a random stage: refused by name, or the session goes on."""
    session = FUZZED[stage]
    index, reply = 1, session.replies[1]
    wire = bytearray(reply)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] = data.draw(st.integers(0, 255))
    session.server._expected.add(index)  # as if it had not sent anything yet
    with contextlib.suppress(SecAggError):
        session.server.receive(index, bytes(wire))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), stage=st.sampled_from(STAGES))
def test_fuzz_what_a_client_receives(data, stage):
    """100 messages, each changed in one place, at a random stage: refused by name, or answered."""
    session = Session()
    wire = bytearray(session.until(stage)[0])
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(SecAggError):
        session.answer(0, stage, bytes(wire))


class _Waiting(dict):
    """Sessions that wait at a stage with the honest replies at hand, made when first asked for."""

    def __missing__(self, stage):
        session = Session()
        wires = session.until(stage)
        session.replies = {index: session.answer(index, stage, wire) for index, wire in wires.items()}
        self[stage] = session
        return session


FUZZED = _Waiting()

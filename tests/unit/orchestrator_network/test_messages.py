"""The messages of the network: what they cover, and bytes that are none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import WORDS, config_of, first_state

from models.weights import weights_to_bytes
from orchestrator.network import messages
from orchestrator.network.errors import (
    WireError,
)
from orchestrator.network.server import setup_message
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


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

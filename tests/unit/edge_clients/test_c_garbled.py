"""Garbled bytes, and allocations that fail: the C library refuses by name, and no sanitizer finds anything."""

from __future__ import annotations

import os

import numpy as np
import pytest
from c_participant import DRAWS, SETUP, VECTORS, participant
from c_peer import Refused, conformance

from orchestrator.network import messages

SESSION = conformance("secagg")["complete graph"]
TRIES = int(os.environ.get("FEDKEYS_FUZZ", "3000"))


def test_no_allocation_fails_silently(peer):
    """Whichever allocation of an answer fails: the status says so, nothing leaks, and no answer is half."""
    talk = [bytes.fromhex(turn["message"]) for turn in VECTORS["conversation"][:7]]
    names = set()
    for place, message in enumerate(talk):
        allocation, was_starved = 0, True
        while was_starved:
            allocation += 1
            client = participant(peer, draws=DRAWS)
            for before in talk[:place]:
                client.answer(before)
            try:
                answer, was_starved = client.answer(message, starved_at=allocation), False
            except Refused as error:
                names.add(error.name)
        assert allocation > 2, place
        assert not client.was_starved
        assert (answer and answer.hex()) == VECTORS["conversation"][place]["answer"]
    assert names == {"NoMemory"}


HONEST = {
    **{
        name: SESSION["clients"][0]["messages"][place]["wire"]
        for place, name in enumerate(("Invitation", "Roster", "Delivery", "Survivors", "UnmaskRequest"))
    },
    "to client": VECTORS["setup"],
    "signed roster": conformance("roster")["rosters"]["some clients and a helper"]["content"].encode().hex(),
    "run name": conformance("split")["runs"][0]["config"].encode().hex(),
    "terms": conformance("split")["uploads"][0]["terms"],
    "config": bytes(messages.decode(SETUP, messages.TO_CLIENT).config).hex(),
}


@pytest.mark.parametrize("kind", HONEST)
def test_no_garbled_bytes_break_a_parser(peer, kind):
    (num_read,) = peer.ask("garble", kind, bytes.fromhex(HONEST[kind]), TRIES, 1)
    assert 0 < int(num_read) < TRIES


@pytest.mark.parametrize("turn", range(1, len(VECTORS["conversation"])))
def test_no_garbled_bytes_break_the_reader_of_a_later_message(peer, turn):
    message = VECTORS["conversation"][turn]["message"]
    (num_read,) = peer.ask("garble", "to client", bytes.fromhex(message), TRIES // 4, turn)
    assert 0 < int(num_read) < TRIES // 4


def test_garbled_messages_are_answered_or_refused_by_name(peer):
    rng, talk = np.random.default_rng(11), [bytes.fromhex(turn["message"]) for turn in VECTORS["conversation"]]
    names = {
        "Wire",
        "Run",
        "Demand",
        "Session",
        "Unexpected",
        "Weak",
        "Roster",
        "Shares",
        "Survivors",
        "Split",
        "Alive",
    }
    outcomes = set()
    for turn in range(max(TRIES // 30, 2 * len(talk))):
        client, place = participant(peer), turn % len(talk)
        changed = bytearray(talk[place])
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        for message in [*talk[: min(place, 7)], bytes(changed)]:
            try:
                client.answer(message)
                outcomes.add("")
            except Refused as error:
                outcomes.add(error.name)
    assert {"", "WireError"} < outcomes
    assert all(any(outcome.startswith(name) for name in names) for outcome in outcomes if outcome)

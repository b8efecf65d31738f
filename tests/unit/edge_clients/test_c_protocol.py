"""The C library's half of secure aggregation computes what Python's does, byte for byte, under sanitizers."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from c_peer import Refused, conformance, numbers, policy_fields, unhex

STAGES = ("advertise", "shares", "upload", "consistency", "unmask")
HAS_UNMASKED, HAS_REFUSED = 5, 6
TRIES = int(os.environ.get("FEDKEYS_FUZZ", "100"))
SESSIONS = conformance("secagg")


def begin(peer, session, watched, question="secagg"):
    keys = b"".join(sorted(unhex(*session["enrolled"])))
    draws = b"".join(unhex(*watched["draws"]))
    policy = policy_fields(session["policy"])
    peer.ask(question, *unhex(watched["identity"]), keys, *unhex(session["agreed"]), draws, *policy)


def step(peer, stage, wire, watched):
    return peer.ask("step", stage, bytes.fromhex(wire), np.uint32(watched["vector"]).tobytes())[0].hex()


@pytest.mark.parametrize(
    ("name", "place"), [(name, i) for name in SESSIONS for i in range(len(SESSIONS[name]["clients"]))]
)
def test_a_whole_session_byte_for_byte(peer, name, place):
    session = SESSIONS[name]
    watched = session["clients"][place]
    begin(peer, session, watched)
    assert [message["stage"] for message in watched["messages"]] == list(STAGES)
    for message in watched["messages"]:
        assert step(peer, message["stage"], message["wire"], watched) == message["answer"], message["stage"]
    assert numbers(peer.ask("state")) == [HAS_UNMASKED, True, 0]


@pytest.mark.parametrize("name", SESSIONS)
def test_the_table_of_lies(peer, name):
    """Each lie is refused by its name and in Python's words, and ends the session without a secret left."""
    session = SESSIONS[name]
    watched = session["clients"][0]
    honest = {message["stage"]: message["wire"] for message in watched["messages"]}
    for lie in session["refusals"]:
        told = {**honest, **lie["replaced"]}
        begin(peer, session, watched)
        for earlier in STAGES[: STAGES.index(lie["stage"])]:
            step(peer, earlier, told[earlier], watched)
        with pytest.raises(Refused) as caught:
            step(peer, lie["stage"], told[lie["stage"]], watched)
        where = (lie["stage"], lie["lie"])
        assert (where, caught.value.name, str(caught.value)) == (where, lie["error"], lie["text"])
        assert (where, numbers(peer.ask("state"))[:2]) == (where, [HAS_REFUSED, True])
        with pytest.raises(Refused, match="nothing: it has refused") as caught:
            step(peer, lie["stage"], honest[lie["stage"]], watched)
        assert caught.value.name == "UnexpectedMessage"
    assert len(session["refusals"]) > (60 if name == "complete graph" else 0)


def test_a_client_takes_only_the_next_message(peer):
    session = SESSIONS["complete graph"]
    watched = session["clients"][0]
    begin(peer, session, watched)
    honest = {message["stage"]: message["wire"] for message in watched["messages"]}
    for stage in STAGES:
        for other in set(STAGES) - {stage}:
            with pytest.raises(Refused, match="^the client waits for"):
                step(peer, other, honest[other], watched)
        step(peer, stage, honest[stage], watched)
    with pytest.raises(Refused, match="it has unmasked"):
        step(peer, "unmask", honest["unmask"], watched)


def test_a_session_comes_once_for_a_device(peer):
    session = SESSIONS["complete graph"]
    watched = session["clients"][0]
    begin(peer, session, watched)
    wire = watched["messages"][0]["wire"]
    step(peer, "advertise", wire, watched)
    begin(peer, session, watched, "secagg again")
    with pytest.raises(Refused, match="was used before$") as caught:
        step(peer, "advertise", wire, watched)
    assert caught.value.name == "SessionReplayed"


def test_a_vector_of_another_length_is_the_caller_s_error(peer):
    session = SESSIONS["complete graph"]
    watched = session["clients"][0]
    begin(peer, session, watched)
    for message in watched["messages"][:2]:
        step(peer, message["stage"], message["wire"], watched)
    with pytest.raises(Refused, match=r"^vector must be uint32 \[7\], got uint32 \[2\]") as caught:
        step(peer, "upload", watched["messages"][2]["wire"], {"vector": [1, 2]})
    assert caught.value.name == "BadArgument"


def garbled(octets, rng):
    """Up to three bytes changed, most of them at the beginning, where it matters; cut or lengthened now and then."""
    changed = bytearray(octets)
    for _ in range(rng.integers(1, 4)):
        most = min(len(changed), 40) if rng.random() < 0.5 else len(changed)
        changed[rng.integers(most)] = rng.integers(256)
    kind = rng.random()
    if kind < 0.15:
        return bytes(changed[: rng.integers(len(changed) + 1)])
    return bytes(changed) + (b"\0" if kind < 0.2 else b"")


def test_garbled_bytes_are_answered_or_refused_by_name(peer):
    session, rng = SESSIONS["complete graph"], np.random.default_rng(7)
    watched, outcomes = session["clients"][0], set()
    for turn in range(TRIES):
        begin(peer, session, watched)
        place = turn % len(STAGES)
        for message in watched["messages"][:place]:
            step(peer, message["stage"], message["wire"], watched)
        message = watched["messages"][place]
        try:
            step(peer, message["stage"], garbled(bytes.fromhex(message["wire"]), rng).hex(), watched)
            outcomes.add("")
        except Refused as error:
            outcomes.add(error.name)
    assert {"", "WireError"} < outcomes <= {"", *(lie["error"] for lie in session["refusals"])}


def test_a_list_that_claims_four_billion_items_ends_at_once(peer):
    session = SESSIONS["complete graph"]
    watched = session["clients"][0]
    begin(peer, session, watched)
    step(peer, "advertise", watched["messages"][0]["wire"], watched)
    tag = b"secagg/1/Roster"
    endless = (
        b"\x94" + struct.pack("B", 0xA0 | len(tag)) + tag + b"\xc4\x20" + bytes(32) + b"\0" + b"\xdd" + b"\xff" * 4
    )
    with pytest.raises(Refused, match="^Roster: "):
        step(peer, "shares", endless.hex(), watched)

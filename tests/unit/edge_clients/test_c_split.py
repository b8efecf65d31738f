"""The C library answers and refuses in the split sum as Python's client does, byte for byte, under sanitizers."""

from __future__ import annotations

import numpy as np
import pytest
from c_participant import ROSTER, quarter
from c_participant import VECTORS as AROUND
from c_peer import DEMANDS, CParticipant, Refused, conformance

VECTORS = conformance("split")
TALK = VECTORS["participant"]
IDENTITY, SETUP = bytes.fromhex(AROUND["identity"]), bytes.fromhex(TALK["setup"])


def joined(texts):
    return b"".join(map(bytes.fromhex, texts))


@pytest.mark.parametrize("case", VECTORS["runs"], ids=range(len(VECTORS["runs"])))
def test_the_name_of_a_run(peer, case):
    assert peer.ask("run name", case["config"], *case["words"]) == [bytes.fromhex(case["name"])]


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config + " ",
        lambda config: config.replace(":0,", ": 0,", 1),
        lambda config: config.replace("}}", '},"new":{}}'),
        lambda config: config[:-1],
        lambda config: "",
        lambda config: config[: config.index('"chitchat"') + 4],
    ],
)
def test_settings_in_another_writing_name_no_run(peer, change):
    case = VECTORS["runs"][0]
    with pytest.raises(Refused, match="is not written as this fedkeys writes it$") as caught:
        peer.ask("run name", change(case["config"]), *case["words"])
    assert caught.value.name == "WireError"


def upload(peer, terms, told, helpers=(), draws=b"", last_answered=0):
    own = AROUND["client_id"], IDENTITY, joined(helpers or TALK["helpers"]), TALK["min_survivors"], last_answered
    vector = np.uint32(VECTORS["uploads"][0]["vector"]).tobytes()
    rest = bytes.fromhex(told["run"]), told["version"], bytes.fromhex(told["agreed"]), told["num_groups"]
    return peer.ask("upload", *own, draws, bytes.fromhex(terms), vector, *rest)


@pytest.mark.parametrize("case", VECTORS["uploads"], ids=lambda case: f"{len(case['helpers'])} helpers")
def test_an_upload(peer, case):
    (answer,) = upload(peer, case["terms"], case["told"], case["helpers"], joined(case["draws"]))
    assert answer.hex() == case["answer"]


@pytest.mark.parametrize("case", VECTORS["refusals"], ids=lambda case: case["lie"])
def test_the_rounds_that_a_client_refuses(peer, case):
    last = case["told"]["version"] if case["is_answered"] else 0
    with pytest.raises(Refused) as caught:
        upload(peer, case["terms"], case["told"], draws=bytes(999), last_answered=last)
    assert (caught.value.name, str(caught.value)) == (case["error"], case["text"])


def participant(peer, draws=bytes(1000)):
    peer.ask("helpers", joined(TALK["helpers"]))
    demands = {**DEMANDS, "min_survivors": TALK["min_survivors"]}.values()
    return CParticipant(peer, AROUND["client_id"], IDENTITY, ROSTER, quarter, {}, draws, demands)


def test_a_conversation(peer):
    client = participant(peer, joined(TALK["draws"]))
    for turn in TALK["conversation"]:
        answer = client.answer(bytes.fromhex(turn["message"]))
        assert (answer and answer.hex()) == turn["answer"]


@pytest.mark.parametrize("lie", TALK["refusals"], ids=lambda lie: lie["lie"])
def test_the_table_of_lies(peer, lie):
    client = participant(peer)
    *before, last = (SETUP if message == "setup" else bytes.fromhex(message) for message in lie["messages"])
    for message in before:
        client.answer(message)
    with pytest.raises(Refused) as caught:
        client.answer(last)
    assert (caught.value.name, str(caught.value)) == (lie["error"], lie["text"])


def test_no_allocation_fails_silently(peer):
    """Whichever allocation of the upload fails: the status says so, nothing leaks, and no answer is half."""
    allocation, names, (setup, plan) = 0, set(), TALK["conversation"][:2]
    was_starved = True
    while was_starved:
        allocation += 1
        client = participant(peer, joined(TALK["draws"]))
        client.answer(bytes.fromhex(setup["message"]))
        try:
            answer, was_starved = client.answer(bytes.fromhex(plan["message"]), starved_at=allocation), False
        except Refused as error:
            names.add(error.name)
    assert (names, answer.hex(), client.was_starved) == ({"NoMemory"}, plan["answer"], False)
    assert allocation > 10


def test_helpers_are_one_to_five_and_different(peer):
    peer.ask("helpers", joined(TALK["helpers"] * 2))
    with pytest.raises(Refused, match="1 to 5 different helpers"):
        CParticipant(peer, AROUND["client_id"], IDENTITY, ROSTER, quarter, {})

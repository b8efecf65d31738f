"""The C library answers and refuses a server's messages as Python's client does, byte for byte, under sanitizers."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from c_participant import (
    DRAWS,
    PLAN,
    ROSTER,
    SEED,
    SETUP,
    VECTORS,
    participant,
    quarter,
    refuses,
    trained,
)
from c_peer import CParticipant, CPeer, Refused, peer_path
from memcheck import under_valgrind

from edge import signatures
from orchestrator.network import messages
from orchestrator.secagg import messages as secagg
from orchestrator.wire import encode


@pytest.fixture(params=["sanitizers", "valgrind"])
def checked(request):
    """A peer whose errors of memory one of the two looks for."""
    command = under_valgrind(peer_path(sanitized=False)) if request.param == "valgrind" else None
    with CPeer(command) as own:
        yield own


def test_a_conversation_byte_for_byte(checked):
    """Setup, a whole round, one that the client declines, and a goodbye."""
    client = participant(checked, draws=DRAWS)
    for turn in VECTORS["conversation"]:
        answer = client.answer(bytes.fromhex(turn["message"]))
        assert (answer and answer.hex()) == turn["answer"]
    assert client.goodbye == "all rounds are done\\n\\x1b\\u202e"


@pytest.mark.parametrize("lie", VECTORS["refusals"], ids=lambda lie: lie["lie"])
def test_the_table_of_lies(peer, lie):
    client = participant(peer)
    *before, last = (SETUP if message == "setup" else bytes.fromhex(message) for message in lie["messages"])
    for message in before:
        client.answer(message)
    text = refuses(client, last, lie["error"])
    assert text == lie["text"].replace(" -1.0,", " -1,")[:255]  # C writes a float without its .0


def test_no_answer_tells_whether_training_diverged(peer):
    """What is not finite is zeros with weight 0: the masked vector is the mask alone."""
    uploads = []
    for bad in (0.0, np.nan, np.inf, np.float32(3e38)):

        def train(round_num, rate, weights, bad=bad):
            delta = np.frombuffer(weights, "<f4") * np.float32(0 if bad == 0 else 0.25)
            delta[3] = bad
            if bad == 0:
                v = trained(round_num, delta)
                return v[0], 0, 0, *v[3:]
            return trained(round_num, delta)

        client = participant(peer, train, draws=DRAWS)
        talk = [bytes.fromhex(turn["message"]) for turn in VECTORS["conversation"][:5]]
        uploads.append([client.answer(message) for message in talk])
    assert uploads[0] == uploads[1] == uploads[2]
    assert uploads[3][:4] == uploads[0][:4]
    assert uploads[3] != uploads[0]  # long, and finite: clipped


def test_a_round_is_spent_before_it_is_trained(peer):
    spent = {}

    def train(round_num, rate, weights):
        assert spent == {SEED: 1}
        raise OSError("no room")

    client = participant(peer, train, spent)
    client.answer(SETUP)
    refuses(client, PLAN, "Io", "^no room$")
    refuses(client, PLAN, "SessionReplayed", "^round 1 came before: ")
    later = participant(peer, spent={SEED: 1})  # another process, the same journal
    later.answer(SETUP)
    refuses(later, PLAN, "SessionReplayed")


class _Full(dict):
    def __setitem__(self, seed, round_num):
        raise OSError("the disk is full")


def test_a_journal_that_can_t_be_written_stops_the_answer(peer):
    def train(*_):
        raise AssertionError("it must not train")

    client = participant(peer, train, _Full())
    client.answer(SETUP)
    refuses(client, PLAN, "Io", "^the disk is full$")
    step = bytes.fromhex(VECTORS["conversation"][2]["message"])
    refuses(client, step, "WireError", "no plan before$")


def test_an_answer_that_depends_on_the_text_leaves_after_a_whole_step(peer):
    client = participant(peer, step_ms=150)
    client.answer(SETUP)
    started = time.monotonic()
    client.answer(PLAN)
    assert time.monotonic() - started >= 0.15


def test_a_roster_without_this_client_or_with_another_key_of_it(peer):
    others = {name: key for name, key in ROSTER.items() if name != VECTORS["client_id"]}
    for roster, text in (
        (others, "has no client client 0"),
        ({**others, "client 0": bytes(32)}, "is not this device's"),
    ):
        with pytest.raises(Refused, match=text) as caught:
            participant(peer, roster=roster)
        assert caught.value.name == "KeysError"


def test_a_name_is_shown_as_ascii_and_never_cut_within_a_character(peer):
    with pytest.raises(Refused, match=r"has no client (\\xeb)+: enrol again$"):
        CParticipant(peer, "\xeb" * 128, bytes(32), ROSTER, quarter, {})


def test_a_list_has_at_most_as_many_items_as_there_can_be_clients(peer):
    """A message of 4 MB can't make the client take memory for each of its bytes."""
    client, most = participant(peer, draws=DRAWS), 1 << 20
    for turn in VECTORS["conversation"][:6]:
        client.answer(bytes.fromhex(turn["message"]))
    honest = messages.decode(bytes.fromhex(VECTORS["conversation"][6]["message"]), messages.TO_CLIENT)
    request = secagg.decode(bytes(honest.body), secagg.UnmaskRequest, 1 << 20)
    endless = encode(msgspec.structs.replace(request, dead=[0] * (most + 1)))
    step = encode(messages.Step(honest.round_num, honest.stage, memoryview(endless)))
    refuses(client, step, "WireError", "^UnmaskRequest: ")


def test_the_first_message_proves_who_it_is(peer):
    nonce = bytes(range(32))
    joined, signature = participant(peer).join(nonce)
    join = messages.decode(joined, messages.JOINING)
    assert (join.client_id, join.signature) == (VECTORS["client_id"], signature)
    assert signatures.is_signed(signature, ROSTER["client 0"], messages.proof_bytes(nonce, "client 0"))
    with pytest.raises(Refused, match="nonce has 32 bytes"):
        participant(peer).join(nonce[1:])


def step_of(stage):
    return encode(messages.Step(1, stage, memoryview(b"")))


def test_texts_have_the_lengths_that_their_types_say(peer):
    """Characters count, not bytes."""
    for bad in (step_of("s" * 33), step_of(""), *(encode(messages.Goodbye(c * 301)) for c in "a\U0001f600")):
        refuses(participant(peer), bad, "WireError", "no message of fedkeys' network")
    for good, shown in (("a" * 300, "a" * 300), ("\U0001f600" * 300, "\\U0001f600" * 300), ("é\t", "\\xe9\\t")):
        client = participant(peer)
        client.answer(encode(messages.Goodbye(good)))
        assert client.goodbye == shown


def test_what_a_server_names_is_shown_as_one_line(peer):
    client = participant(peer)
    client.answer(SETUP)
    client.answer(PLAN)
    refuses(client, step_of("\x1b\n"), "DemandRefused", r"^round 1, \\x1b\\n: there is no such stage")


def test_a_list_may_say_its_length_in_more_bytes_than_it_needs(peer):
    client, rest = participant(peer), PLAN[1:]
    client.answer(SETUP)
    assert PLAN[0] == 0x95  # a list of five
    assert client.answer(b"\xdd\0\0\0\5" + rest) is not None
    refuses(client, b"\xdc\0\5" + rest + b"\0", "WireError")

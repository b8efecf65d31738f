"""The C library answers and refuses a server's messages as Python's client does, byte for byte, under sanitizers."""

# Over 300 lines: the tables of lies, and the answers beside them.
from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from c_peer import DEMANDS, CParticipant, CPeer, Refused

import edge
from edge import signatures
from models.corpus import ClientId
from orchestrator.network import messages
from orchestrator.secagg import messages as secagg
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.wire import encode


def conformance(name):
    return json.loads((Path(edge.__file__).parent / "conformance" / f"{name}.json").read_text("utf-8"))


VECTORS, SESSION = conformance("participant"), conformance("secagg")["complete graph"]
SETUP = bytes.fromhex(VECTORS["setup"])
PLAN = bytes.fromhex(VECTORS["conversation"][1]["message"])
SEED = 2**63 - 5
ROSTER = {name: bytes.fromhex(key) for name, key in VECTORS["roster"].items()}
TRIES = int(os.environ.get("FEDKEYS_FUZZ", "3000"))
# A device trains with the exported model, which has no proximal term and no dropout; that a group of a run is large
# enough is checked with its invitation.
STRICTER, LAXER = {"client.proximal", "client.dropout"}, {"aggregation.groups"}


@pytest.fixture(scope="module")
def peer():
    with CPeer() as own:
        yield own


def quarter(round_num, rate, weights):
    """Training that every language does alike; the rounding draws what Python's client does."""
    delta = np.frombuffer(weights, "<f4") * np.float32(VECTORS["trained"]["scale"])
    return trained(round_num, delta)


def trained(round_num, delta):
    rng = simulation_rng(SEED, Purpose.ROUNDING, round_num, ClientId(VECTORS["client_id"]))
    draws, last = rng.random(delta.size, dtype=np.float32).tobytes(), rng.random()
    v = VECTORS["trained"]
    return delta.astype("<f4").tobytes(), v["num_tokens"], v["num_examples"], draws, last


def participant(peer, train=quarter, spent=None, draws=b"\0" * 5_000, roster=None, limits=None, **rest):
    demands = {**DEMANDS, **limits}.values() if limits is not None else ()
    identity = bytes.fromhex(VECTORS["identity"])
    spent = {} if spent is None else spent
    return CParticipant(peer, VECTORS["client_id"], identity, roster or ROSTER, train, spent, draws, demands, **rest)


def refuses(client, message, name, match=None):
    with pytest.raises(Refused, match=match) as caught:
        client.answer(message)
    assert caught.value.name == name, caught.value
    return str(caught.value)


def test_a_conversation_byte_for_byte(peer):
    """Setup, a whole round, one that the client declines, and a goodbye."""
    client = participant(peer, draws=b"".join(map(bytes.fromhex, VECTORS["draws"])))
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


def changed_setup(section=None, **changes):
    found = messages.decode(SETUP, messages.TO_CLIENT)
    config = json.loads(found.config)
    (config[section] if section else config).update(changes)
    return encode(messages.Setup(json.dumps(config).encode(), found.words))


def rewritten(old, new):
    """The setup with a part of its JSON replaced."""
    found = messages.decode(SETUP, messages.TO_CLIENT)
    assert old in found.config
    return encode(msgspec.structs.replace(found, config=found.config.replace(old, new)))


def test_each_setting_takes_and_refuses_what_python_s_does(peer):
    count = 0
    for setting, outcomes in VECTORS["settings"].items():
        section, name = setting.split(".")
        for value, expected in zip(VECTORS["values"], outcomes):
            client, found = participant(peer), ""
            try:
                client.answer(changed_setup(section, **{name: value}))
            except Refused as error:
                found = error.name
            allowed = {expected}
            if (setting in STRICTER and expected == "") or (setting in LAXER and expected == "DemandRefused"):
                allowed = {"", "DemandRefused"}
            assert found in allowed, (setting, value, found)
            count += 1
    assert count > 600


def test_a_seed_keeps_all_its_digits(peer):
    spent = {}
    client = participant(peer, spent=spent)
    client.answer(SETUP)
    client.answer(PLAN)
    assert spent == {SEED: 1}
    assert participant(peer).answer(changed_setup(seed=2**63 - 1)) is None
    for seed in (b"-1", b"1.5", b"01", b"9223372036854775808", b'"1"', b"null", b"1e3", b"1" * 400):
        refuses(participant(peer), rewritten(b'"seed":%d' % SEED, b'"seed":' + seed), "WireError")


def test_settings_that_this_version_does_not_know_or_that_are_missing_or_twice(peer):
    for old, new in (
        (b'"max_words":20,', b""),
        (b'"max_words":20,', b'"max_words":20,"new":1,'),
        (b'"max_words":20,', b'"max_words":20,"max_words":20,'),
        (b'"max_words":20,', b'"max\\u005fwords":20,'),
        (b'"seed":', b'"seed":1,"seed":'),
        (b"}}", b'},"new":{}}'),
        (b'"max_words":20', b'"max_words":20.0'),
        (b'"max_words":20', b'"max_words":020'),
        (b'"language":"en"', b'"language":"e\xff"'),
        (b'"language":"en"', b'"language":"e\n"'),
        (b'"data":{', b'"data":[{'),
    ):
        refuses(participant(peer), rewritten(old, new), "WireError", "not one of this fedkeys$")
    for config in (b"null", b"[]", b"5", b'"text"', b"", b"{}", b"{" * 100, b'{"seed":1}'):
        refuses(participant(peer), encode(messages.Setup(config, ["<pad>"])), "WireError", "not one of this fedkeys$")
    assert participant(peer).answer(rewritten(b'"source":"chitchat"', b'"source":"a\\"\\u0041\\\\ \xc3\xa9"')) is None


def test_a_run_whose_words_a_segmenter_cuts_is_refused_by_name(peer):
    changed = changed_setup("data", segmenter="icu")
    refuses(participant(peer), changed, "DemandRefused", "segmenter 'icu' is not in this client$")


def test_a_model_beyond_what_fedkeys_trains_is_refused_whatever_the_client_allows(peer):
    limits = dict.fromkeys(("max_weights", "max_minutes", "max_memory_mib"), float("inf"))
    client = participant(peer, limits=limits)
    refuses(
        client, changed_setup("model", num_cells=20_000_000), "DemandRefused", "can't be trained with: the model would"
    )


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"max_sentences": 199}, "asks for up to 200 sentences to train on in a round, this client allows 199$"),
        ({"max_minutes": 0.00001}, "asks for up to 1 minutes of training in a round, this client allows 1e-05$"),
        ({"max_memory_mib": 0}, "asks for up to 1 MiB of memory, this client allows 0$"),
        ({"max_cohort": 4}, "5 clients in a round, this client allows 4$"),
        ({"max_weights": 175}, "176 weights in the model, this client allows 175$"),
        ({"max_epochs": float("nan")}, "1 epochs, this client allows nan$"),
    ],
)
def test_a_client_lowers_its_limits(peer, limit, text):
    refuses(participant(peer, limits=limit), SETUP, "DemandRefused", text)


def test_a_client_does_as_much_as_it_allows(peer):
    limits = {"max_cohort": 5, "max_epochs": 1, "max_sentences": 200, "max_batch_tokens": 40, "max_weights": 176}
    client = participant(peer, limits={**limits, "max_minutes": 1, "max_memory_mib": 1})
    assert client.answer(SETUP) is None
    weights = np.frombuffer(bytes(messages.decode(PLAN, messages.TO_CLIENT).weights), "<f4").copy()
    weights[0] = -1000
    assert client.answer(encode(messages.Plan(3, 10.0, memoryview(weights.tobytes()), b"terms of another sum")))


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

        client = participant(peer, train, draws=b"".join(map(bytes.fromhex, VECTORS["draws"])))
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
    client, most = participant(peer, draws=b"".join(map(bytes.fromhex, VECTORS["draws"]))), 1 << 20
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


def test_no_allocation_fails_silently(peer):
    """Whichever allocation of an answer fails: the status says so, nothing leaks, and no answer is half."""
    talk = [bytes.fromhex(turn["message"]) for turn in VECTORS["conversation"][:7]]
    draws, names = b"".join(map(bytes.fromhex, VECTORS["draws"])), set()
    for place, message in enumerate(talk):
        allocation, was_starved = 0, True
        while was_starved:
            allocation += 1
            client = participant(peer, draws=draws)
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

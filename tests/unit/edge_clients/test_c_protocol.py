"""The C library's half of secure aggregation computes what Python's does, byte for byte, under sanitizers."""

# Over 300 lines: each primitive and message beside its vectors, through one program.
from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from c_peer import CPeer, Refused

import edge
from edge import signatures
from orchestrator.secagg import shamir

VECTORS = Path(edge.__file__).parent / "conformance"
STAGES = ("advertise", "shares", "upload", "consistency", "unmask")
HAS_UNMASKED, HAS_REFUSED = 5, 6
TRIES = int(os.environ.get("FEDKEYS_FUZZ", "100"))


def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


PRIMITIVES, SESSIONS = vectors("primitives"), vectors("secagg")


@pytest.fixture(scope="module")
def peer():
    with CPeer() as own:
        yield own


def numbers(fields):
    return [float(field) for field in fields]


def policy_fields(policy):
    fields = {**policy, "max_clients": 1 << 20}
    fields["semi_malicious"] = int(fields["semi_malicious"])
    return [repr(value) for value in fields.values()]


def unhex(*texts):
    return [bytes.fromhex(text) for text in texts]


def test_digests_and_derived_keys(peer):
    v = PRIMITIVES
    session = bytes.fromhex(v["session"])
    for case in v["sha256"]:
        assert peer.ask("sha256", *unhex(case["of"])) == unhex(case["digest"])
    case = v["derive"]
    assert peer.ask("derive", *unhex(case["secret"], case["info"])) == unhex(case["derived"])
    case = v["context"]
    assert peer.ask("context", case["purpose"], session, *case["parties"]) == unhex(case["bytes"])
    shared, case = v["x25519"]["shared"], v["pair_mask_seed"]
    for parties in ((case["one"], case["other"]), (case["other"], case["one"])):
        assert peer.ask("pair_mask_seed", *unhex(shared), session, *parties) == unhex(case["seed"])
    for purpose, name, found in (
        ("self mask", "self_mask_seed", "seed"),
        ("self mask commitment", "commitment", "value"),
    ):
        case = v[name]
        assert peer.ask("self_mask", purpose, *unhex(case["secret"]), session, case["owner"]) == unhex(case[found])
    case = v["share_tag"]
    asked = peer.ask("share_tag", *unhex(case["share"]), session, case["owner"], case["holder"])
    assert asked == unhex(case["tag"])
    case = v["bound_session"]
    everyone = [field for index, *keys in case["everyone"] for field in (index, *unhex(*keys))]
    assert peer.ask("bound", session, *unhex(case["agreed"]), *everyone) == unhex(case["complete"])
    assert peer.ask("bound", session, *unhex(case["agreed"])) == unhex(case["drawn"])


def test_key_agreement_refuses_small_orders_and_second_writings(peer):
    v = PRIMITIVES["x25519"]
    private, public, other, shared = unhex(v["private"], v["public"], v["other"], v["shared"])
    assert peer.ask("x25519_public", private) == [public]
    assert peer.ask("x25519", private, other) == [shared]
    for case in v["largest"]:
        assert peer.ask("x25519", private, *unhex(case["key"])) == unhex(case["shared"])
    for key, reason in [(k, "small order") for k in v["small_order"]] + [
        (k, "written another way") for k in v["other_writings"]
    ]:
        with pytest.raises(Refused, match=f"^a neighbour has a public key .*{reason}") as caught:
            peer.ask("x25519", private, *unhex(key))
        assert caught.value.name == "RosterRefused"


def flipped(octets, place):
    return octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]


def test_signatures(peer):
    v = PRIMITIVES["ed25519"]
    private, public, body, signature = unhex(v["private"], v["public"], v["body"], v["signature"])
    assert peer.ask("ed25519_public", private) == [public]
    assert peer.ask("sign", private, body) == [signature]
    assert peer.ask("is_signed", signature, public, body) == [b"1"]
    for place in (0, 31):
        for changed in (
            (flipped(signature, place), public, body),
            (signature, flipped(public, place), body),
            (signature, public, flipped(body, place)),
        ):
            assert peer.ask("is_signed", *changed) == [b"0"]


def test_nobody_signs_for_a_key_of_small_order(peer):
    one = bytes([1] + [0] * 31)
    for y in signatures._SMALL_ORDER:
        for sign in (0, 0x80):
            key = y[:31] + bytes([y[31] | sign])
            assert peer.ask("is_signed", one + bytes(32), key, b"\x07") == [b"0"]  # holds by the equation for some


def test_a_seal_opens_for_its_pair_and_session_only(peer):
    v, session = PRIMITIVES["seal"], bytes.fromhex(PRIMITIVES["session"])
    plain, channel, nonce, sealed = unhex(v["plain"], v["channel"], v["nonce"], v["sealed"])
    parties = (v["sender"], v["to"])
    assert peer.ask("seal", plain, channel, session, *parties, nonce) == [sealed]
    assert peer.ask("unseal", sealed, channel, session, *parties) == [plain]
    wrong = [
        (sealed, channel, session, *parties[::-1]),
        (sealed, channel, bytes(32), *parties),
        (sealed, bytes(32), session, *parties),
        *((flipped(sealed, place), channel, session, *parties) for place in (0, 12, 93)),
    ]
    for question in wrong:
        assert peer.ask("unseal", *question) == [b""]


def test_masks_also_where_the_counter_wraps(peer):
    for case in PRIMITIVES["masks"]:
        (raw,) = peer.ask("mask", *unhex(case["seed"]), case["num_words"], 0)
        words = np.frombuffer(raw, "<u4")
        assert (words[:4].tolist(), words[-4:].tolist()) == (case["first"], case["last"])
        assert hashlib.sha256(raw).hexdigest() == case["sha256"]
        (raw,) = peer.ask("mask", *unhex(case["seed"]), case["num_words"], 1)
        assert not np.any(np.frombuffer(raw, "<u4") + words)


def test_shares(peer):
    v = PRIMITIVES["shamir"]
    draws = b"".join(unhex(*v["draws"]))
    assert peer.ask("split", *unhex(v["secret"]), v["threshold"], draws, *v["points"]) == [
        b"".join(unhex(*v["shares"]))
    ]


def test_shares_at_the_edges_of_the_field(peer):
    """The reduction borrows or does not; a draw beyond the prime is drawn again."""
    largest = shamir.PRIME - 1
    for secret in (0, 1, 2**256 - 1, 2**255):
        for coefficient in (0, 1, 296, 2**256 - 1, 2**256, largest):
            points = (1, 2, 297, 1 << 20)
            draws = (
                (2**256 + 297).to_bytes(33, "big")
                + (2**257 - 1).to_bytes(33, "big")
                + coefficient.to_bytes(33, "big") * 2
            )
            (found,) = peer.ask("split", secret.to_bytes(32, "big"), 3, draws, *points)
            assert found == b"".join(shamir.evaluate([secret, coefficient, coefficient], points))
    for threshold, points in ((1, (1, 2)), (3, (1, 2))):
        with pytest.raises(Refused, match="threshold must lie in"):
            peer.ask("split", bytes(32), threshold, bytes(999), *points)


@pytest.mark.parametrize("name", vectors("graph"))
def test_degree_and_threshold_of_cohorts(peer, name):
    case = vectors("graph")[name]
    for size, *expected in case["cohorts"]:
        if expected:
            assert numbers(peer.ask("graph", size, *policy_fields(case["policy"]))) == expected
        else:
            with pytest.raises(Refused) as caught:
                peer.ask("graph", size, *policy_fields(case["policy"]))
            assert caught.value.name == "WeakParameters"


def test_a_sum_holds_two_honest_vectors(peer):
    assert [numbers(peer.ask("fewest", size, 0.05)) for size in (3, 10, 100, 1000)] == [[3], [3], [7], [52]]


@pytest.mark.parametrize("name", vectors("encoder")["cases"])
def test_an_update_encodes_to_the_same_vector(peer, name):
    v = vectors("encoder")
    case = v["cases"][name]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(n) for n in v["draws"]["entropy"]])))
    draws, last = rng.random(26, dtype=np.float32), rng.random()
    fields = [repr(case[key]) for key in ("clip_norm", "num_clients", "max_weight")]
    delta = b"".join(unhex(*case["delta"]))
    bits, vector = peer.ask("encode", *fields, delta, case["weight"], draws.tobytes(), repr(last))
    assert (float(bits), np.frombuffer(vector, "<u4").tolist()) == (case["bits"], case["vector"])


def test_what_can_t_be_encoded_is_the_caller_s_error(peer):
    ones = np.ones(2, "<f4").tobytes()
    for clip_norm in (2**-97, 0, -1, "nan", "inf"):
        with pytest.raises(Refused, match="clip_norm"):
            peer.ask("encode", clip_norm, 5, 1, ones, 1, b"")
    with pytest.raises(Refused, match="leave 1 bits"):
        peer.ask("encode", 1, 2**30 + 1, 1, ones, 1, b"")
    for values, weight in (([np.nan, 0], 1), ([np.inf, 0], 1), ([0, 0], 3), ([0, 0], "nan"), ([0, 0], -1)):
        with pytest.raises(Refused, match="weight must|NaN"):
            peer.ask("encode", 1, 5, 2, np.float32(values).tobytes(), weight, b"")


def test_rounding_draws_are_uniform(peer):
    """Of 20,000 halves of a step the operating system's randomness rounds half up: ten standard deviations allowed."""
    step = 1.0 / ((2**28 - 1) * (1 - 2**-20))
    halves = np.full(20_000, 0.5 * step, "<f4").tobytes()
    _, vector = peer.ask("encode", 1.0, 8, 1.0, halves, 1, b"")
    words = np.frombuffer(vector, "<u4")[:-1]
    assert set(words.tolist()) == {0, 1}
    assert abs(float(words.mean()) - 0.5) < 10 * 0.5 / np.sqrt(20_000)


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

"""The C library computes each primitive of the protocol as Python does, under sanitizers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from c_peer import Refused, conformance, numbers, policy_fields, unhex

from edge import signatures
from orchestrator.secagg import shamir

PRIMITIVES, GRAPH, ENCODER = conformance("primitives"), conformance("graph"), conformance("encoder")


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


@pytest.mark.parametrize("name", GRAPH)
def test_degree_and_threshold_of_cohorts(peer, name):
    case = GRAPH[name]
    for size, *expected in case["cohorts"]:
        if expected:
            assert numbers(peer.ask("graph", size, *policy_fields(case["policy"]))) == expected
        else:
            with pytest.raises(Refused) as caught:
                peer.ask("graph", size, *policy_fields(case["policy"]))
            assert caught.value.name == "WeakParameters"


def test_a_sum_holds_two_honest_vectors(peer):
    assert [numbers(peer.ask("fewest", size, 0.05)) for size in (3, 10, 100, 1000)] == [[3], [3], [7], [52]]


@pytest.mark.parametrize("name", ENCODER["cases"])
def test_an_update_encodes_to_the_same_vector(peer, name):
    case = ENCODER["cases"][name]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(n) for n in ENCODER["draws"]["entropy"]])))
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

"""Keys, masks and shares give the known answers of the standards, and bind what they must bind."""

from __future__ import annotations

import contextlib
import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import signatures
from orchestrator import masks
from orchestrator.masks import Mask
from orchestrator.secagg import keys, shamir

SESSION, OTHER_SESSION = bytes(range(32)), bytes(32)
SMALL_ORDER = (  # points of order 1, 2 and 8: https://cr.yp.to/ecdh.html#validate
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
)


def _public(private) -> bytes:
    return private.public_key().public_bytes_raw()


def test_x25519_known_answer():
    """RFC 7748, section 6.1: Bob's private key, Alice's public key, the shared secret."""
    bob = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert _public(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert keys.exchange(bob, alice) == shared


def test_hkdf_known_answer():
    """RFC 5869, test case 3 (no salt, no info): the first 32 of its 42 bytes."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert keys.derive(b"\x0b" * 22, b"").hex() == expected


def test_ed25519_known_answer():
    """RFC 8032, section 7.1, test 2; and our signatures are those over context and body."""
    identity = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    assert _public(identity).hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert identity.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    signature = keys.sign(identity, b"purpose", SESSION, 7, b"body")
    signed = b"fedkeys secagg 1 purpose\0" + SESSION + b"\0\0\0\x07" + b"body"
    Ed25519PublicKey.from_public_bytes(_public(identity)).verify(signature, signed)


def test_aes_gcm_known_answer():
    """The GCM specification's test case 14 (AES-256); SP 800-38D defines the mode and gives no vectors."""
    sealed = AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), None)
    assert sealed.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def mask_of(seed, num_slots) -> np.ndarray:
    vector = np.zeros(num_slots, np.uint32)
    masks.add_masks(vector, [Mask(seed, 1)])
    return vector


def test_mask_known_answer():
    """NIST SP 800-38A, F.5.1 (CTR-AES128): a seed is key and first counter, a mask is the key stream."""
    seed = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3cf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    key_stream = bytes.fromhex(
        "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae"
        "6a2cc3787889374fbeb4c81b17ba6c44e89c399ff0f198c6d40a31db156cabfe"
    )
    assert np.array_equal(mask_of(seed, 16), np.frombuffer(key_stream, "<u4"))


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
@pytest.mark.parametrize("num_slots", [1, 3, 4, 5, 33_000, 70_001, 250_003])
def test_masks_do_not_depend_on_the_threads(num_slots, num_threads):
    rng = np.random.default_rng(0)
    seeds = [rng.bytes(16) + b"\xff" * 16 for _ in range(5)]  # the counter wraps at once
    vector = np.zeros(num_slots, np.uint32)
    masks.add_masks(vector, (Mask(seed, 1) for seed in seeds), num_threads)
    expected = sum(mask_of(seed, num_slots) for seed in seeds)
    assert np.array_equal(vector, expected)
    masks.add_masks(vector, (Mask(seed, -1) for seed in seeds), num_threads)
    assert not vector.any()


def test_the_time_of_other_threads_is_told():
    vector, seeds = np.zeros(1 << 20, np.uint32), [bytes([i]) * 32 for i in range(8)]
    assert masks.add_masks(vector, [Mask(seed, 1) for seed in seeds], num_threads=1) == 0.0
    assert masks.add_masks(vector, [Mask(seed, 1) for seed in seeds], num_threads=2) > 0.0


def test_more_masks_than_a_batch_cancel():
    vector = np.arange(100, dtype=np.uint32)
    seeds = [secrets.token_bytes(32) for _ in range(600)]
    masks.add_masks(vector, (Mask(seed, sign) for seed in seeds for sign in (1, -1)), num_threads=2)
    assert np.array_equal(vector, np.arange(100))


def test_a_seed_of_another_length_is_refused():
    with pytest.raises(ValueError, match="seed must be 32 bytes"):
        mask_of(bytes(16), 10)


def test_both_sides_derive_one_seed_and_nobody_else():
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    shared = keys.exchange(one, _public(other))
    seed = keys.pair_mask_seed(shared, SESSION, 3, 8)
    assert seed == keys.pair_mask_seed(keys.exchange(other, _public(one)), SESSION, 8, 3)
    different = [
        keys.pair_mask_seed(shared, OTHER_SESSION, 3, 8),
        keys.pair_mask_seed(shared, SESSION, 3, 9),
        keys.pair_mask_seed(keys.exchange(X25519PrivateKey.generate(), _public(other)), SESSION, 3, 8),
        keys.self_mask_seed(seed, SESSION, 3),
        keys.commitment(seed, SESSION, 3),
    ]
    assert len({seed, *different}) == 6


def test_a_seal_opens_only_for_its_pair_direction_and_session():
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    channel, strangers = keys.exchange(other, _public(one)), keys.exchange(X25519PrivateKey.generate(), _public(one))
    sealed = keys.seal(b"x" * 66, keys.exchange(one, _public(other)), SESSION, sender=3, to=8)
    assert keys.unseal(sealed, channel, SESSION, sender=3, to=8) == b"x" * 66
    assert keys.unseal(sealed, channel, SESSION, sender=8, to=3) is None
    assert keys.unseal(sealed, channel, OTHER_SESSION, sender=3, to=8) is None
    assert keys.unseal(sealed, strangers, SESSION, sender=3, to=8) is None
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        assert keys.unseal(changed, channel, SESSION, sender=3, to=8) is None


def test_a_signature_holds_for_its_purpose_session_sender_and_body():
    identity = Ed25519PrivateKey.generate()
    signature = keys.sign(identity, b"advertise", SESSION, 1, b"body")
    public = _public(identity)
    assert keys.is_signed(signature, public, b"advertise", SESSION, 1, b"body")
    assert not keys.is_signed(signature, public, b"survivors", SESSION, 1, b"body")
    assert not keys.is_signed(signature, public, b"advertise", OTHER_SESSION, 1, b"body")
    assert not keys.is_signed(signature, public, b"advertise", SESSION, 2, b"body")
    assert not keys.is_signed(signature, public, b"advertise", SESSION, 1, b"bodz")
    assert not keys.is_signed(signature, _public(Ed25519PrivateKey.generate()), b"advertise", SESSION, 1, b"body")
    assert not keys.is_signed(signature, b"\xff" * 32, b"advertise", SESSION, 1, b"body")


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_keys_of_small_order_are_refused(public):
    assert not keys.is_sound(public)
    with pytest.raises(keys.UnsoundKey):
        keys.exchange(X25519PrivateKey.generate(), public)


def test_a_key_written_another_way_is_refused():
    """X25519 ignores the top bit and reduces modulo 2**255 - 19: one key would stand under several names."""
    own = X25519PrivateKey.generate()
    public = _public(X25519PrivateKey.generate())
    alias = public[:31] + bytes([public[31] | 0x80])
    raw = X25519PublicKey.from_public_bytes
    assert own.exchange(raw(alias)) == own.exchange(raw(public))
    for written in (alias, (2**255 - 19 + 9).to_bytes(32, "little")):  # the latter is the base point
        assert not keys.is_sound(written)
        with pytest.raises(keys.UnsoundKey, match="written another way$"):
            keys.exchange(own, written)
    assert keys.is_sound((9).to_bytes(32, "little"))


@pytest.mark.parametrize("threshold", [2, 7, 8, 9, 16, 17, 60])  # around multiples of the steps between reductions
def test_a_share_is_the_polynomial_s_value(threshold):
    coefficients = [shamir.PRIME - 1 - number for number in range(threshold)]
    points = [1, 2, 1000, 2**20]
    values = [sum(c * x**power for power, c in enumerate(coefficients)) % shamir.PRIME for x in points]
    assert shamir.evaluate(coefficients, points) == [value.to_bytes(33, "big") for value in values]


def test_shamir_known_polynomial():
    """1234 + 166 x + 94 x**2, worked by hand; any three of the six values give 1234 back."""
    values = [int.from_bytes(share, "big") for share in shamir.evaluate([1234, 166, 94], range(1, 7))]
    assert values == [1494, 1942, 2578, 3402, 4414, 5614]
    for points in ((2, 4, 5), (1, 2, 3), (6, 1, 4)):
        shares = {point: values[point - 1].to_bytes(33, "big") for point in points}
        assert int.from_bytes(shamir.combine(shares), "big") == 1234


def test_the_field_is_the_least_prime_above_32_bytes():
    def is_prime(n: int) -> bool:
        """Miller and Rabin with 24 bases: wrong with probability below 4**-24."""
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        bases = np.random.default_rng(0).integers(2, 2**63, 24)
        powers = ([pow(int(base), odd << k, n) for k in range(twos)] for base in bases)
        return all(found[0] == 1 or n - 1 in found for found in powers)

    assert is_prime(shamir.PRIME)
    assert not any(is_prime(n) for n in range(2**256 + 1, shamir.PRIME, 2))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), num_holders=st.integers(2, 40))
def test_any_threshold_of_shares_recovers_the_secret_and_fewer_do_not(data, num_holders):
    points = data.draw(st.lists(st.integers(1, 5_000), min_size=num_holders, max_size=num_holders, unique=True))
    threshold = data.draw(st.integers(2, num_holders))
    secret = data.draw(st.sampled_from([bytes(32), b"\xff" * 32, secrets.token_bytes(32)]))
    shares = dict(zip(points, shamir.split(secret, threshold, points)))
    chosen = data.draw(st.permutations(points))
    assert shamir.combine({point: shares[point] for point in chosen[:threshold]}) == secret
    with contextlib.suppress(ValueError):  # the field is a little larger than 32 bytes
        assert shamir.combine({point: shares[point] for point in chosen[: threshold - 1]}) != secret


def test_a_share_alone_is_uniform():
    """A holder's share of 0 and of 2**256 - 1: 4,000 each, the first byte after the leading one in 16 bins. Chi-square
    with 15 degrees of freedom exceeds 72.3 with probability 2e-9; so for both a false alarm is below 1e-8."""
    for secret in (bytes(32), b"\xff" * 32):
        found = [shamir.split(secret, 2, [1, 2])[0][1] >> 4 for _ in range(4_000)]
        counts = np.bincount(found, minlength=16)
        assert ((counts - 250) ** 2 / 250).sum() < 72.3


@pytest.mark.parametrize(
    ("secret", "threshold", "points", "text"),
    [
        (bytes(31), 2, [1, 2], "32 bytes"),
        (bytes(32), 1, [1, 2], "threshold=1"),
        (bytes(32), 3, [1, 2], "threshold=3"),
        (bytes(32), 2, [0, 2], "positive"),
        (bytes(32), 2, [2, 2], "distinct"),
    ],
)
def test_splits_that_would_not_hide_the_secret_are_refused(secret, threshold, points, text):
    with pytest.raises(ValueError, match=text):
        shamir.split(secret, threshold, points)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize(
    "y",
    [
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ],
)
def test_nobody_signs_for_a_key_of_small_order(y, sign):
    key = bytes.fromhex(y)
    key = key[:31] + bytes([key[31] | sign])
    assert signatures.has_small_order(key)
    # R = the point 1, S = 0: where the hash is a multiple of the key's order this holds, at 1 in 8 messages and more.
    forged = b"\x01" + bytes(63)
    assert not any(signatures.is_signed(forged, key, bytes([message])) for message in range(100))

"""Sealing is RFC 9180's, by its own vector and by another implementation."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.split.hpke import OVERHEAD_BYTES, seal, unseal


def test_the_vector_of_the_rfc():
    """Appendix A.1.1, base mode, the first message. A seal has fresh keys, so this opens what the RFC sealed."""
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    )
    assert private.public_key().public_bytes_raw().hex() == (
        "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
    )
    sealed = bytes.fromhex(
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    assert unseal(private, info, sealed, b"Count-0") == b"Beauty is truth, truth beauty"


def test_it_agrees_with_the_library_both_ways():
    hpke = pytest.importorskip("cryptography.hazmat.primitives.hpke", reason="this version has no HPKE")
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
    private = X25519PrivateKey.generate()
    public = private.public_key()
    for info in (b"", b"one", bytes(1000)):
        assert suite.decrypt(seal(public.public_bytes_raw(), info, b"seed"), private, info) == b"seed"
        assert unseal(private, info, suite.encrypt(b"seed", public, info)) == b"seed"


def test_only_the_right_key_info_and_aad_open_and_no_byte_may_differ():
    private, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    sealed = seal(private.public_key().public_bytes_raw(), b"info", b"seed", b"aad")
    assert len(sealed) == len(b"seed") + OVERHEAD_BYTES
    assert unseal(private, b"info", sealed, b"aad") == b"seed"
    assert unseal(other, b"info", sealed, b"aad") is None
    assert unseal(private, b"Info", sealed, b"aad") is None
    assert unseal(private, b"info", sealed, b"Aad") is None
    assert unseal(private, b"info", sealed) is None
    for place in range(len(sealed)):
        flipped = bytes([*sealed[:place], sealed[place] ^ 1, *sealed[place + 1 :]])
        assert unseal(private, b"info", flipped, b"aad") is None, place
    for length in range(len(sealed)):
        assert unseal(private, b"info", sealed[:length], b"aad") is None


def test_two_seals_of_the_same_share_nothing():
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    one, two = seal(public, b"info", bytes(32)), seal(public, b"info", bytes(32))
    assert one[:32] != two[:32]
    assert one[32:] != two[32:]


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
def test_a_key_of_small_order_is_refused_on_both_sides(point):
    private = X25519PrivateKey.generate()
    with pytest.raises(ValueError, match="computing shared key"):
        seal(point, b"info", b"seed")
    assert unseal(private, b"info", point + bytes(20)) is None

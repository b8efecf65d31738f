"""The messages of the encrypted sum; their fields travel in the order written here, see orchestrator/wire.py.

    decryptor -> clients, aggregator    RoundTerms    the public key and its conditions, signed
    client -> aggregator                Upload        its vector under that key, signed
    aggregator -> decryptor             Transcript    who contributed what, and the total's digest
                                        the total     ciphertexts alone: bytes of the length that the terms fix

Lengths are part of a message's type: `decode` refuses all others. A ciphertext is 2 * poly_degree little-endian words,
each of the fewest whole bytes that hold the modulus: 7 bytes with the default parameters, where a machine word has 8.
A signature covers bytes of fixed layout that are made from the fields, never the wire itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Annotated, TypeVar, Union

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from edge.signatures import is_signed
from orchestrator import wire
from orchestrator.homomorphic.errors import BadSignature, MalformedMessage
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.wire import Wire, exactly

VERSION = 1
MAX_ENVELOPE_BYTES = 1024  # of an upload, around its ciphertexts
MAX_TERMS_BYTES = 1 << 20  # the public key of the largest degree takes 512 KiB
NOTHING_AGREED = bytes(32)
_PREFIX = b"fedkeys encrypted sum 1 "


Digest = Annotated[bytes, exactly(32)]
Session = Annotated[bytes, exactly(32)]
Signature = Annotated[bytes, exactly(64)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Count = Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
Buffer = Union[bytes, memoryview]


class Message(Wire, frozen=True, tag=lambda name: f"encrypted-sum/{VERSION}/{name}"):
    """The base of the three messages."""


class RoundTerms(Message, frozen=True):
    """The decryptor's signed offer for one round: this key opens one sum under these conditions."""

    session: Session
    round_num: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    poly_degree: Count
    coeff_modulus_bits: Count
    dim: Count
    min_contributions: Count
    public_key: bytes
    signature: Signature = bytes(64)

    @property
    def parameters(self) -> BfvParameters:
        """The cipher's parameters.

        Raises:
          InsecureParameters: they give less than 128 bits of security.
          MalformedMessage: the cipher has no such parameters.
        """
        try:
            return BfvParameters(self.poly_degree, self.coeff_modulus_bits)
        except ValueError as error:
            raise MalformedMessage(f"RoundTerms: {error}") from None

    @property
    def digest(self) -> bytes:
        """32 bytes that name the session, the round, the parameters and the key at once."""
        conditions = struct.pack(
            ">5I",
            self.round_num,
            self.poly_degree,
            self.coeff_modulus_bits,
            self.dim,
            self.min_contributions,
        )
        return hashlib.sha256(_PREFIX + b"terms\0" + self.session + conditions + self.public_key).digest()


class Upload(Message, frozen=True):
    """A client's encrypted vector. Decoded without a copy of the ciphertexts."""

    terms: Digest
    client_id: Name
    signature: Signature
    ciphertexts: memoryview


class Contribution(Wire, frozen=True):
    """An entry of the transcript: a client, the digest of what it sent, and its signature over both."""

    client_id: Name
    ciphertexts_sha256: Digest
    signature: Signature


class Transcript(Message, frozen=True):
    """The aggregator's claim of what it added."""

    session: Session
    round_num: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    terms: Digest
    agreed: Digest
    total_sha256: Digest
    contributions: list[Contribution]


M = TypeVar("M", bound=Message)


def decode(octets: bytes, message_type: type[M], max_bytes: int) -> M:
    """Returns the message of the expected type that the bytes hold; see orchestrator.wire.decode.

    Raises:
      MalformedMessage: the bytes are no such message, or longer than max_bytes.
    """
    return wire.decode(octets, message_type, max_bytes, MalformedMessage)


def sign_terms(terms: RoundTerms, identity: Ed25519PrivateKey) -> RoundTerms:
    """Returns the terms with the decryptor's signature."""
    return msgspec.structs.replace(terms, signature=identity.sign(terms.digest))


def read_terms(octets: bytes, decryptor_identity: bytes) -> RoundTerms:
    """Returns the terms that this decryptor signed.

    Args:
      decryptor_identity: its Ed25519 public key, 32 bytes, known beforehand, since whoever chooses it can
        read everything.

    Raises:
      MalformedMessage, InsecureParameters: the bytes are no terms, or unsafe ones.
      BadSignature: another party signed the terms.
    """
    terms = decode(octets, RoundTerms, MAX_TERMS_BYTES)
    _ = terms.parameters
    require_signature(terms.signature, decryptor_identity, terms.digest, "RoundTerms: the decryptor")
    return terms


def contribution_bytes(
    terms: bytes, client_id: str, ciphertexts_sha256: bytes, agreed: bytes = NOTHING_AGREED
) -> bytes:
    """Returns the bytes that a client signs. The name comes last, since all before it is of fixed length.

    Args:
      agreed: 32 bytes, a digest of what all clients of the round must have heard; see ClientEncryptor.
    """
    return _PREFIX + b"upload\0" + terms + agreed + ciphertexts_sha256 + client_id.encode()


def require_signature(signature: bytes, identity: bytes, signed: bytes, who: str) -> None:
    """Passes if the holder of this identity signed exactly these bytes.

    Raises:
      BadSignature: the holder did not.
    """
    if not is_signed(signature, identity, signed):
        raise BadSignature(f"{who} did not sign this")


def pack_words(words: NDArray[np.uint64], parameters: BfvParameters) -> bytes:
    """Returns the words' bytes on the wire, without the high bytes, which are zero."""
    return words.astype("<u8", copy=False).view("V8").astype(f"V{parameters.word_bytes}").tobytes()


def unpack_words(packed: Buffer, parameters: BfvParameters) -> NDArray[np.uint64]:
    """Returns the words that `pack_words` packed; does not check that they are below the modulus.

    >>> parameters = BfvParameters()
    >>> unpack_words(pack_words(np.array([1, 2**55], np.uint64), parameters), parameters).tolist()
    [1, 36028797018963968]
    """
    word_bytes = parameters.word_bytes
    padded = np.zeros(len(packed) + 8, np.uint8)
    padded[:-8] = np.frombuffer(packed, np.uint8)
    # machine words that overlap: each reads its own bytes and a few of the next one's, which the mask removes
    words: NDArray[np.uint64] = np.ndarray(len(packed) // word_bytes, "<u8", padded, strides=(word_bytes,))
    return words & np.uint64(2 ** (8 * word_bytes) - 1)


def split_ciphertexts(packed: Buffer, parameters: BfvParameters) -> Iterator[NDArray[np.uint64]]:
    """Yields the words, uint64 [2 * poly_degree], of one ciphertext after the other."""
    size = parameters.ciphertext_bytes
    view = memoryview(packed)
    return (unpack_words(view[start : start + size], parameters) for start in range(0, len(view), size))


def require_ciphertexts(packed: Buffer, parameters: BfvParameters, dim: int, what: str) -> None:
    """Passes if the bytes are ciphertexts of these parameters for `dim` slots.

    Raises:
      MalformedMessage: the length is another, or a word is not below the modulus.
    """
    expected = parameters.body_bytes(dim)
    if len(packed) != expected:
        raise MalformedMessage(f"{what}: {len(packed)} bytes of ciphertexts, not {expected}")
    modulus = parameters.coeff_modulus
    if any(int(words.max()) >= modulus for words in split_ciphertexts(packed, parameters)):
        raise MalformedMessage(f"{what}: ciphertexts of another modulus")

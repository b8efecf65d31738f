"""The keys of the cipher. Only this module calls SEAL: to make a key pair, to encrypt and to decrypt.

SEAL's byte form of an object begins with a prefix that is the same for all objects of that kind and those parameters:
sizes and the parameters' hash. `_library` takes the prefix from an object that it made. Only the words after the prefix
travel, and SEAL parses received words behind our prefix, so that nobody outside can choose the metadata.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, NoReturn

import numpy as np
import seal
from numpy.typing import NDArray

from orchestrator.homomorphic.errors import InsecureParameters, MalformedMessage
from orchestrator.homomorphic.messages import pack_words, unpack_words
from orchestrator.homomorphic.parameters import PLAIN_MODULUS, BfvParameters


class _Library(NamedTuple):
    """SEAL's context for one set of parameters, and how its objects' bytes begin."""

    context: seal.SEALContext
    plain_prefix: bytes
    ciphertext_prefix: bytes
    public_key_prefix: bytes
    secret_key_prefix: bytes


@functools.cache
def _library(parameters: BfvParameters) -> _Library:
    encryption = seal.EncryptionParameters(seal.scheme_type.bfv)
    encryption.set_poly_modulus_degree(parameters.poly_degree)
    encryption.set_coeff_modulus([seal.Modulus(parameters.coeff_modulus)])
    encryption.set_plain_modulus(PLAIN_MODULUS)
    context = seal.SEALContext(encryption, True, seal.sec_level_type.tc128)
    if not context.parameters_set():
        raise InsecureParameters(f"SEAL refuses {parameters}: {context.parameter_error_name()}")
    generator = seal.KeyGenerator(context)  # thrown away: only the form of its objects is of interest
    public_key = generator.create_public_key()
    one, two = 8 * parameters.poly_degree, 16 * parameters.poly_degree
    return _Library(
        context=context,
        plain_prefix=seal.Plaintext(parameters.poly_degree).to_bytes()[:-one],
        ciphertext_prefix=seal.Encryptor(context, public_key).encrypt_zero().to_string()[:-two],
        public_key_prefix=public_key.to_string()[:-two],
        secret_key_prefix=generator.secret_key().to_string()[:-one],
    )


class PublicKey:
    """Encrypts; holds nothing secret.

    Args:
      packed: the bytes that `to_bytes` returned.

    Raises:
      MalformedMessage: the bytes are no public key of these parameters.
    """

    def __init__(self, parameters: BfvParameters, packed: bytes) -> None:
        library = _library(parameters)
        words = _require_words(packed, 2 * parameters.poly_degree, parameters, "public key")
        key = library.context.from_public_str(library.public_key_prefix + words.tobytes())
        self.parameters = parameters
        self._packed = bytes(packed)
        self._encryptor = seal.Encryptor(library.context, key)

    def to_bytes(self) -> bytes:
        """Returns the key's bytes."""
        return self._packed

    def encrypt(self, slots: NDArray[np.uint32]) -> bytes:
        """Returns one ciphertext's bytes on the wire.

        Args:
          slots: uint32 [at most poly_degree]; zeros fill the rest.
        """
        library = _library(self.parameters)
        coefficients = np.zeros(self.parameters.poly_degree, "<u8")
        coefficients[: len(slots)] = slots
        plain = seal.Plaintext()
        plain.load_bytes(library.context, library.plain_prefix + coefficients.tobytes())
        whole = self._encryptor.encrypt(plain).to_string()
        return pack_words(np.frombuffer(whole, "<u8", offset=len(library.ciphertext_prefix)), self.parameters)


class SecretKey:
    """Decrypts. A secret key can be neither printed, pickled nor copied: it ends with its process.

    Args:
      packed: the coefficients in the wire's packing, as `generate_keys` makes them.

    Raises:
      MalformedMessage: the bytes are no secret key of these parameters.
    """

    def __init__(self, parameters: BfvParameters, packed: bytes) -> None:
        library = _library(parameters)
        words = _require_words(packed, parameters.poly_degree, parameters, "secret key")
        self.parameters = parameters
        key = library.context.from_secret_str(library.secret_key_prefix + words.tobytes())
        self._decryptor = seal.Decryptor(library.context, key)

    def __repr__(self) -> str:
        return "SecretKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is neither pickled nor copied")

    def decrypt(self, words: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Returns the slots, uint32 [poly_degree], of one ciphertext.

        Args:
          words: uint64 [2 * poly_degree], below the modulus.
        """
        library = _library(self.parameters)
        ciphertext = seal.Ciphertext()
        ciphertext.load_bytes(library.context, library.ciphertext_prefix + words.astype("<u8").tobytes())
        plain = self._decryptor.decrypt(ciphertext).to_bytes()
        slots = np.zeros(self.parameters.poly_degree, np.uint32)
        # SEAL leaves out the zeros of the highest powers
        coefficients = np.frombuffer(plain, "<u8", offset=len(library.plain_prefix))
        slots[: len(coefficients)] = coefficients
        return slots


def generate_keys(parameters: BfvParameters) -> tuple[SecretKey, PublicKey]:
    """Returns a fresh key pair; SEAL takes its seed from the operating system."""
    library = _library(parameters)
    generator = seal.KeyGenerator(library.context)
    secret = _strip(generator.secret_key().to_string(), library.secret_key_prefix, parameters)
    public = _strip(generator.create_public_key().to_string(), library.public_key_prefix, parameters)
    return SecretKey(parameters, secret), PublicKey(parameters, public)


def _strip(whole: bytes, prefix: bytes, parameters: BfvParameters) -> bytes:
    """Returns SEAL's bytes without the header that is SEAL's."""
    return pack_words(np.frombuffer(whole, "<u8", offset=len(prefix)), parameters)


def _require_words(packed: bytes, num_words: int, parameters: BfvParameters, what: str) -> NDArray[np.uint64]:
    if len(packed) != num_words * parameters.word_bytes:
        raise MalformedMessage(f"{what}: {len(packed)} bytes, not {num_words * parameters.word_bytes}")
    words = unpack_words(packed, parameters)
    if int(words.max()) >= parameters.coeff_modulus:
        raise MalformedMessage(f"{what}: of another modulus")
    return words.astype("<u8", copy=False)

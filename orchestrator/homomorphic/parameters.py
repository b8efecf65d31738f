"""The parameters of the encrypted sum: which are secure, what fits in a ciphertext, how many may be added."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from orchestrator.homomorphic.errors import InsecureParameters, TooManyClients

PLAIN_MODULUS = 2**32

# The largest log2(coefficient modulus) with 128 bits of classical security, for a ternary secret and an error of
# standard deviation 3.2. Source: Albrecht et al., Homomorphic Encryption Standard (2018), table 1,
# https://eprint.iacr.org/2019/939.
MAX_COEFF_MODULUS_BITS_128 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}

_MAX_WORD_BITS = 60  # SEAL's limit for one prime
_ERROR_BOUND = 21  # |coefficient of an error| in SEAL: a difference of two sums of 21 bits
_ERROR_PROXY = 10.5  # its sub-Gaussian variance proxy: 42 independent terms of +-1/2
_MAX_LOG2_SLOTS = 32
_LOG2_FAILURE = -64  # of a whole sum of up to 2**32 slots


@dataclass(frozen=True)
class BfvParameters:
    """BFV with plaintext modulus 2**32, one vector slot per polynomial coefficient, one prime as modulus.

    Why the total is the plain sum modulo 2**32, bit for bit. A plaintext is a polynomial of N = poly_degree
    coefficients modulo t = 2**32, and encryption hides round(q m / t) in noise e. Adding n ciphertexts modulo q adds
    these coefficient by coefficient: no product is taken, so no slot meets another one. Because q/t * (sum of m) and
    q/t * (sum of m mod t) differ by a multiple of q, the added ciphertext decrypts to (sum of m) mod 2**32 as long as
    the noise stays below q/(2t). That is what uint32 addition does, for every uint32: two's complement, offset or
    not, at any number of bits and whatever wraps. A batching modulus would have to be a prime above 2**32, which
    costs a centred representation, one or more bits, and a transform on either side, for a product that no sum takes.

    How many may be added. The noise in one coefficient of one fresh ciphertext is (e u)_k + (e2 s)_k + e1_k, with the
    key's e and s fixed and u ternary, e1, e2 fresh. These are independent, of mean zero, and sub-Gaussian with
    variance proxy V = 21**2 N + 10.5 N + 10.5 (Hoeffding's lemma for u, whose weights are at most 21; s is ternary).
    In a sum of n,
        P(|noise| > tau) <= 2 exp(-tau**2 / (2 n V))
    and the n roundings of q m / t add at most n/2. max_clients is the largest n for which tau + n/2 <= q/(4t) with
    failure at most 2**-64 over all of up to 2**32 slots. Half of the radius q/(2t) is kept for SEAL's own rounding.

    Attributes:
      poly_degree: N, a power of two.
      coeff_modulus_bits: of the prime q; the largest one of that size that is 1 modulo 2 N.

    Raises:
      InsecureParameters: the parameters give less than 128 bits by the standard's table, or the table lacks the degree.
      ValueError: q is too small to hold a plaintext or too large for one machine word.

    >>> parameters = BfvParameters()
    >>> parameters.coeff_modulus, parameters.max_clients
    (72057594037641217, 69572)
    >>> parameters.num_ciphertexts(1_412_251), round(parameters.body_bytes(1_412_251) / (4 * 1_412_251), 3)
    (345, 3.502)
    """

    poly_degree: int = 4096
    coeff_modulus_bits: int = 56

    def __post_init__(self) -> None:
        limit = MAX_COEFF_MODULUS_BITS_128.get(self.poly_degree, 0)
        if self.coeff_modulus_bits > limit:
            raise InsecureParameters(
                f"coeff_modulus_bits={self.coeff_modulus_bits} at poly_degree={self.poly_degree} is below 128 bits of "
                f"security (at most {limit}): raise poly_degree or lower coeff_modulus_bits"
            )
        least = PLAIN_MODULUS.bit_length() + 1
        if not least <= self.coeff_modulus_bits <= _MAX_WORD_BITS:
            raise ValueError(f"coeff_modulus_bits must lie in {least}..{_MAX_WORD_BITS}, got {self.coeff_modulus_bits}")

    @property
    def coeff_modulus(self) -> int:
        """The prime q."""
        return _largest_prime(self.coeff_modulus_bits, 2 * self.poly_degree)

    @property
    def max_clients(self) -> int:
        """The largest number of ciphertexts whose sum decrypts; see the class."""
        radius = self.coeff_modulus / (4 * PLAIN_MODULUS)
        proxy = self.poly_degree * (_ERROR_BOUND**2 + _ERROR_PROXY) + _ERROR_PROXY
        spread = math.sqrt(2 * proxy * math.log(2) * (1 + _MAX_LOG2_SLOTS - _LOG2_FAILURE))
        # spread * sqrt(n) + n / 2 <= radius, solved for sqrt(n)
        return int((math.sqrt(spread**2 + 2 * radius) - spread) ** 2)

    @property
    def word_bytes(self) -> int:
        """Bytes on the wire for one coefficient of a ciphertext."""
        return -(-self.coeff_modulus_bits // 8)

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes on the wire for one ciphertext: two polynomials."""
        return 2 * self.poly_degree * self.word_bytes

    def num_ciphertexts(self, dim: int) -> int:
        """Returns the number of ciphertexts that hold a vector of `dim` slots and at least one slot more.

        Every client encrypts zeros in the slots that are left, and the decryptor looks for them in the sum. Without
        one, nothing would tell a sum from junk.

        >>> [BfvParameters(4096).num_ciphertexts(dim) for dim in (4095, 4096, 4097)]
        [1, 2, 2]
        """
        return dim // self.poly_degree + 1

    def body_bytes(self, dim: int) -> int:
        """Returns the bytes on the wire of an encrypted vector of `dim` slots."""
        return self.num_ciphertexts(dim) * self.ciphertext_bytes

    def require_room(self, num_clients: int) -> None:
        """Passes if the sum of num_clients ciphertexts decrypts; called before a round that could end in garbage.

        Raises:
          TooManyClients: num_clients > max_clients.
        """
        if num_clients > self.max_clients:
            raise TooManyClients(
                f"{num_clients} clients, but poly_degree={self.poly_degree} with coeff_modulus_bits="
                f"{self.coeff_modulus_bits} adds at most {self.max_clients}: raise coeff_modulus_bits or take fewer"
            )


DEFAULT_PARAMETERS = BfvParameters()


@functools.cache
def _largest_prime(bits: int, step: int) -> int:
    """Returns the largest prime below 2**bits that is 1 modulo step.

    Both sides compute it, so that the modulus does not depend on a library's version.
    """
    candidate = (2**bits - 2) // step * step + 1
    while not _is_prime(candidate):
        candidate -= step
    return candidate


def _is_prime(number: int) -> bool:
    """Whether an odd number below 2**64 is prime: Miller-Rabin with bases that leave no exception there.

    Source: Sinclair's seven bases, https://miller-rabin.appspot.com.
    """
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 325, 9375, 28178, 450775, 9780504, 1795265022):
        power = pow(base, odd, number)
        if power in (0, 1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True

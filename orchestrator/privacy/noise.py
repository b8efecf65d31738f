"""Noise that is released: normal and discrete normal numbers from AES-CTR under a sealed seed of the run.

The seed is 32 bytes of the operating system, kept in DIR/noise_seed for the operator alone. All of a run's noise
follows from it, so that a resumed round repeats its release instead of making a second one, and so that whoever holds
the seed can replay a round (docs/adr/0005-sealed-noise.md). Everybody else sees its commitment.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from orchestrator.errors import RunFolderError

SEED_FILE = "noise_seed"
SEED_BYTES = 32
MIN_DISCRETE_STDDEV = 16.0  # below it the rejection in discrete_normal is no longer exact to float64

_BLOCK = 1 << 15  # numbers made at a time; the temporaries stay in the cache


def create_seed(directory: Path) -> bytes:
    """Makes a new seed, writes it to DIR/noise_seed with mode 0600, syncs it and returns it.

    Raises:
      RunFolderError: there is one already: noise made from it may be out.
    """
    seed = os.urandom(SEED_BYTES)
    path = Path(directory) / SEED_FILE
    if path.exists():  # one process has the folder, under its lock
        raise RunFolderError(f"{path} is there already: name another folder for a new run")
    partial = path.with_name(f".{SEED_FILE}.partial")  # a kill leaves no half seed
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(seed.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return seed


def read_seed(directory: Path) -> bytes:
    """Returns the seed of a run.

    Raises:
      RunFolderError: it is missing, damaged, or others may read it.
    """
    path = Path(directory) / SEED_FILE
    try:
        with open(path) as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read()
        seed = bytes.fromhex(text.strip())
    except (OSError, ValueError):
        raise RunFolderError(f"{path} is missing or damaged: without it no noise can go on; restore it") from None
    if len(seed) != SEED_BYTES:
        raise RunFolderError(f"{path} holds {len(seed)} bytes, not {SEED_BYTES}: restore it")
    if mode & 0o077:
        raise RunFolderError(f"{path} can be read by others, who could take the noise away: chmod 600 it")
    return seed


def commitment(seed: bytes) -> str:
    """Returns a SHA-256 (hex) that binds the holder of a seed to it, and reveals nothing of it.

    >>> commitment(bytes(32))[:16]
    '9c612a977776be80'
    """
    return hashlib.sha256(b"fedkeys noise seed" + seed).hexdigest()


def keyed_digest(seed: bytes, purpose: str, array: NDArray) -> str:
    """Returns the keyed BLAKE2b (hex) of an array.

    Equal arrays have equal digests. To anyone without the seed a digest is as good as random.
    """
    key = _derive(seed, f"digest {purpose}")
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=32, key=key).hexdigest()


def normal(
    seed: bytes, label: str, size: int, insecure_rng: Optional[np.random.Generator] = None
) -> NDArray[np.float64]:
    """Returns standard normal numbers [size], which depend only on seed and label; those of two labels are independent.

    Args:
      seed: of the run.
      label: names the draw.
      size: how many numbers.
      insecure_rng: for tests only: draws from it instead.

    Source: Box and Muller 1958. Its radius takes 53 bits, so that the tail ends at 8.6 standard deviations.

    >>> x = normal(bytes(32), "a", 100_000)
    >>> bool(abs(x.mean()) < 0.02), bool(abs(x.std() - 1) < 0.01), bool((x == normal(bytes(32), "a", 100_000)).all())
    (True, True, True)
    """
    if insecure_rng is not None:
        return insecure_rng.standard_normal(size)
    out = np.empty(size, np.float64)
    if size <= 2 * _BLOCK:
        _fill_all(_stream(seed, label), out)
        return out
    # Two threads, a stream each: numpy lets go of the interpreter, and while a sum is noised nothing else runs.
    streams = [_stream(seed, f"{label} half {half}") for half in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_fill_all, streams, np.array_split(out, 2)))
    return out


def discrete_normal(
    seed: bytes, label: str, size: int, stddev: float, insecure_rng: Optional[np.random.Generator] = None
) -> NDArray[np.int64]:
    """Integers [size] with P(k) proportional to exp(-k^2 / (2 stddev^2)); a function of seed and label.

    A rounded normal number has each k with the integral of the density over k - 1/2 .. k + 1/2, which is
    1 + k^2 / (24 stddev^4) too much relative to k = 0; so it is drawn again with that probability. What
    remains is -k^4 / (823 stddev^8), to leading order, of a probability (1/1920 - 1/576): at the smallest stddev 1.2e-5
    at five standard deviations and 1.9e-4 at ten.

    Raises:
      ValueError: stddev is below MIN_DISCRETE_STDDEV.

    Source: the distribution: Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010, definition 1.

    >>> round(float(discrete_normal(bytes(32), "a", 100_000, 20.0).std()), 1)
    20.0
    """
    if not stddev >= MIN_DISCRETE_STDDEV:
        raise ValueError(f"stddev must be at least {MIN_DISCRETE_STDDEV}, got stddev={stddev}")
    out = np.rint(normal(seed, label, size, insecure_rng) * stddev)
    drawn = np.arange(size)
    for attempt in range(64):
        uniform = _uniform32(seed, f"{label} accept {attempt}", len(drawn), insecure_rng)
        # float32 decides nearly all; its rounding, 2**-24 of a probability below 2**-17, is far below 1e-6.
        drawn = drawn[np.square(out[drawn]) > uniform * np.float32(24.0 * stddev**4)]
        if not len(drawn):
            return out.astype(np.int64)
        out[drawn] = np.rint(normal(seed, f"{label} again {attempt}", len(drawn), insecure_rng) * stddev)
    raise AssertionError("64 rejections in a row")


def _fill_all(stream: _Stream, out: NDArray[np.float64]) -> None:
    for start in range(0, len(out), 2 * _BLOCK):
        _fill_normal(stream, out[start : start + 2 * _BLOCK])


def _fill_normal(stream: _Stream, out: NDArray[np.float64]) -> None:
    half = (len(out) + 1) // 2
    words = stream.words(2 * half)
    radius = words[:half] >> np.uint64(11)
    # In (0, 1]: the logarithm is finite.
    uniform = (radius.astype(np.float64) + 1.0) * 2.0**-53
    np.log(uniform, out=uniform)
    uniform *= -2.0
    np.sqrt(uniform, out=uniform)
    angle = (words[half:] >> np.uint64(11)).astype(np.float64)
    angle *= 2.0**-53 * np.pi  # in [0, pi); the sine's sign is a bit of its own
    cosine = np.cos(angle, out=angle)
    np.multiply(uniform, cosine, out=out[:half])
    rest = len(out) - half
    sine = np.sqrt((1.0 - cosine[:rest]) * (1.0 + cosine[:rest]))  # np.sin takes seven times longer
    sine *= 1.0 - 2.0 * (words[half : half + rest] & np.uint64(1)).astype(np.float64)
    np.multiply(uniform[:rest], sine, out=out[half:])


class _Stream:
    """AES-256-CTR under a key of its own, as unsigned words."""

    def __init__(self, key: bytes):
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._zeros = bytes(0)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Returns the next words, uint64 [count]."""
        if len(self._zeros) != 8 * count:
            self._zeros = bytes(8 * count)
        return np.frombuffer(self._encryptor.update(self._zeros), "<u8")


def _stream(seed: bytes, label: str) -> _Stream:
    return _Stream(_derive(seed, label))


def _derive(seed: bytes, label: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fedkeys noise " + label.encode()).derive(seed)


def _uniform32(seed: bytes, label: str, size: int, insecure_rng: Optional[np.random.Generator]) -> NDArray[np.float32]:
    """Returns uniform numbers in (0, 1], float32 [size]."""
    if insecure_rng is not None:
        return np.float32(1) - insecure_rng.random(size, dtype=np.float32)
    words = _stream(seed, label).words((size + 1) // 2).view(np.uint32)[:size]
    return (words.astype(np.float32) + np.float32(1)) * np.float32(2.0**-32)

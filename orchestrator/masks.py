"""Expands 32-byte seeds to masks, vectors of words, by AES-128-CTR, and adds them modulo 2**32.

A seed serves one mask only. Half of the seed is the AES key and half the first counter block, so that an attacker who
tries keys gains nothing from the number of masks in use.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

SEED_BYTES = 32
_CHUNK_BYTES = 128 << 10  # zeros, key stream and a chunk of the vector fit into the second-level cache together
_ZEROS = memoryview(bytes(_CHUNK_BYTES))
_BATCH = 256  # masks in flight: each holds a cipher state


class Mask(NamedTuple):
    """A mask to be added (sign 1) or subtracted (sign -1)."""

    seed: bytes
    sign: int

    def __repr__(self) -> str:
        return "Mask(...)"  # a seed is a secret


def add_masks(vector: NDArray[np.uint32], masks: Iterable[Mask], num_threads: int = 1) -> float:
    """Adds the masks to the vector in place, and returns the seconds of CPU that other threads than this one spent.

    AES and the addition both release Python's lock, so each thread works on a piece of the vector.

    Args:
      vector: uint32 [num_slots], contiguous.
      masks: may be lazy; memory does not grow with their number.
      num_threads: the most pieces of the vector; a short one has fewer.
    """
    remaining, others_cpu_s = iter(masks), 0.0
    first, *others = _pieces(vector, num_threads)
    with ThreadPoolExecutor(max_workers=max(len(others), 1)) as pool:  # this thread takes the first piece
        while batch := list(islice(remaining, _BATCH)):
            running = [pool.submit(_add_to_piece, piece, block, batch) for piece, block in others]
            _add_to_piece(*first, batch)
            others_cpu_s += sum(future.result() for future in running)
    return others_cpu_s


def _pieces(vector: NDArray[np.uint32], num_pieces: int) -> list[tuple[NDArray[np.uint32], int]]:
    """Returns the vector cut at whole AES blocks: (piece, index of its first block) each."""
    words_per_block = 4
    num_pieces = max(1, min(num_pieces, 4 * vector.size // _CHUNK_BYTES))
    length = -(-vector.size // (num_pieces * words_per_block)) * words_per_block
    starts = range(0, max(vector.size, 1), max(length, words_per_block))
    return [(vector[start : start + length], start // words_per_block) for start in starts]


def _add_to_piece(piece: NDArray[np.uint32], first_block: int, masks: list[Mask]) -> float:
    """Adds the masks' words for this piece, chunk by chunk: a chunk is read from memory once for all masks.

    Returns this thread's seconds of CPU.
    """
    started = time.thread_time()
    streams = [(_stream(mask.seed, first_block), np.add if mask.sign > 0 else np.subtract) for mask in masks]
    key_stream = np.empty(_CHUNK_BYTES, np.uint8)
    chunk_words = _CHUNK_BYTES // 4
    key_stream_bytes = key_stream.data
    for start in range(0, piece.size, chunk_words):
        chunk = piece[start : start + chunk_words]
        words = key_stream.view("<u4")[: chunk.size]
        for stream, add in streams:
            stream.update_into(_ZEROS[: 4 * chunk.size], key_stream_bytes)
            add(chunk, words, out=chunk)
    return time.thread_time() - started


def _stream(seed: bytes, first_block: int) -> CipherContext:
    """Returns the seed's key stream from the given block of 16 bytes on."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"seed must be {SEED_BYTES} bytes, got {len(seed)} bytes")
    counter = (int.from_bytes(seed[16:], "big") + first_block) % 2**128
    return Cipher(algorithms.AES(seed[:16]), modes.CTR(counter.to_bytes(16, "big"))).encryptor()

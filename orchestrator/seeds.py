"""Makes the simulation's randomness: one generator for each purpose, round and client.

Nothing here may make a key, a mask or released noise: their randomness comes from the operating system.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Optional

import numpy as np

from models.corpus import ClientId


class Purpose(enum.IntEnum):
    """What a generator is for. The numbers are part of a run's identity, so that no number may be used again."""

    INITIAL_WEIGHTS = 0
    COHORT = 1
    BATCHES = 2
    ROUNDING = 3
    FAULTS = 4
    DROPOUT = 6  # 5 was the seed of a rotation that is gone
    TURNS = 7  # who may take part in which rounds, under differential privacy
    PHRASES = 15  # secret phrases: which words, and who types them
    ATTACK = 16  # whom fedkeys attack and audit play against, their sentences, its noise
    CANARIES = 17  # the directions of canary clients, and who of them is in
    FLEET = 20
    GROUPS = 30  # who is summed with whom, where a round has several sums


def seed_sequence(
    seed: int, purpose: Purpose, round_num: int = 0, client_id: Optional[ClientId] = None
) -> np.random.SeedSequence:
    """Returns the seed sequence of one purpose, round and client; equal arguments give equal seeds on every machine."""
    client = 0
    if client_id is not None:
        client = int.from_bytes(hashlib.sha256(client_id.encode()).digest()[:8], "little")
    return np.random.SeedSequence([seed, int(purpose), round_num, client])


def simulation_rng(
    seed: int, purpose: Purpose, round_num: int = 0, client_id: Optional[ClientId] = None
) -> np.random.Generator:
    """Returns a generator that is seeded by seed_sequence."""
    return np.random.default_rng(seed_sequence(seed, purpose, round_num, client_id))


def dropout_seed(seed: int, round_num: int) -> int:
    """Returns the seed, an int32, of the neurons that all clients of a round drop out."""
    return int(seed_sequence(seed, Purpose.DROPOUT, round_num).generate_state(1)[0]) >> 1

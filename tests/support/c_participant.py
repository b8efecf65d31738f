"""A participant of the C library in the conversation of edge/conformance/participant.json."""

from __future__ import annotations

import numpy as np
import pytest
from c_peer import DEMANDS, CParticipant, Refused, conformance

from models.corpus import ClientId
from orchestrator.seeds import Purpose, simulation_rng

VECTORS = conformance("participant")
SETUP = bytes.fromhex(VECTORS["setup"])
PLAN = bytes.fromhex(VECTORS["conversation"][1]["message"])
SEED = 2**63 - 5
ROSTER = {name: bytes.fromhex(key) for name, key in VECTORS["roster"].items()}
DRAWS = b"".join(map(bytes.fromhex, VECTORS["draws"]))


def quarter(round_num, rate, weights):
    """Training that every language does alike; the rounding draws what Python's client does."""
    delta = np.frombuffer(weights, "<f4") * np.float32(VECTORS["trained"]["scale"])
    return trained(round_num, delta)


def trained(round_num, delta):
    rng = simulation_rng(SEED, Purpose.ROUNDING, round_num, ClientId(VECTORS["client_id"]))
    draws, last = rng.random(delta.size, dtype=np.float32).tobytes(), rng.random()
    v = VECTORS["trained"]
    return delta.astype("<f4").tobytes(), v["num_tokens"], v["num_examples"], draws, last


def participant(peer, train=quarter, spent=None, draws=b"\0" * 5_000, roster=None, limits=None, **rest):
    demands = {**DEMANDS, **limits}.values() if limits is not None else ()
    identity = bytes.fromhex(VECTORS["identity"])
    spent = {} if spent is None else spent
    return CParticipant(peer, VECTORS["client_id"], identity, roster or ROSTER, train, spent, draws, demands, **rest)


def refuses(client, message, name, match=None):
    with pytest.raises(Refused, match=match) as caught:
        client.answer(message)
    assert caught.value.name == name, caught.value
    return str(caught.value)

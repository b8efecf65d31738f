"""Whatever a server sends, a client answers or refuses by name in one line: never a traceback, never endless work."""

from __future__ import annotations

import math
import random
import time

import msgspec
import pytest
from loopback import NAMES, WORDS, config_of, first_state, participant

from models.weights import weights_to_bytes
from orchestrator.errors import OrchestratorError
from orchestrator.network import messages
from orchestrator.network.demands import STAGES
from orchestrator.network.server import setup_message
from orchestrator.secagg import messages as secagg_messages
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(120)

CONFIG = config_of(num_rounds=50)
NUMBERS = [0, 1, 5, -1, 10**6, 2**31 - 1, 2**31, 2**63 - 1, 2**64, 0.0, 1e-320, 1e308, -1e308, math.nan]
OTHERS = ["", "x" * 1000, "median", "encrypted", "litert", None, True, [], {}]
BODIES = [
    b"",
    encode(secagg_messages.Invitation(bytes(32), 1, 0, 6, 5, 4, 2, 144)),
    encode(secagg_messages.Survivors(bytes(32), 0, b"\xff")),
    encode(secagg_messages.UnmaskRequest(bytes(32), 0, [], [0], [1])),
]
WEIGHTS = weights_to_bytes(first_state(CONFIG).weights)


def garbled(rng, octets):
    octets = bytearray(octets)
    for _ in range(rng.choice([1, 2, 8])):
        if octets:
            octets[rng.randrange(len(octets))] = rng.randrange(256)
    return bytes(octets[: rng.randrange(len(octets) + 1)] if rng.random() < 0.2 else octets)


def a_setup(rng):
    settings = msgspec.to_builtins(CONFIG)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        section = rng.choice([own for own in settings.values() if isinstance(own, dict) and own])
        section[rng.choice(list(section))] = rng.choice([*NUMBERS, *OTHERS])
    words = rng.choice([list(WORDS.words)] * 6 + [[], ["a"], [""] * 20, list(WORDS.words) * 2])
    return encode(messages.Setup(msgspec.json.encode(settings), words))


def a_message(rng):
    kind = rng.random()
    if kind < 0.3:
        weights = memoryview(rng.choice([WEIGHTS, WEIGHTS, garbled(rng, WEIGHTS)]))
        return encode(messages.Plan(rng.choice([0, 1, 2, 50, 51]), rng.choice([1.0, 0.0, -1.0, math.nan]), weights))
    if kind < 0.9:
        body = rng.choice(BODIES)
        stage = rng.choice([*STAGES["secagg"], *STAGES["encrypted"], "nonsense"])
        return encode(messages.Step(rng.choice([1, 2]), stage, memoryview(rng.choice([body, garbled(rng, body)]))))
    return garbled(rng, rng.choice([setup_message(CONFIG, WORDS), encode(messages.Goodbye("over"))]))


@pytest.mark.parametrize("seed", range(4))
def test_no_message_of_a_server_is_a_traceback_or_endless_work(keys, seed):
    rng, refusals = random.Random(seed), {}
    for _ in range(250):
        client = participant(keys, NAMES[0])
        for message in [a_setup(rng), *(a_message(rng) for _ in range(4))]:
            started = time.monotonic()
            try:
                client.answer(message)
            except OrchestratorError as refusal:
                refusals[type(refusal).__name__] = str(refusal)
                break
            assert time.monotonic() - started < 10
    assert {"DemandRefused", "WireError"} <= set(refusals)
    assert "ConfigError" not in refusals, "that is a user's own mistake"
    assert not any("\n" in line for line in refusals.values())

"""participant.json: what one client answers to a server's messages around the protocol, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Optional

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.draws import Draws
from models.corpus import ClientId
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.errors import OrchestratorError
from orchestrator.network import messages
from orchestrator.network.client import Participant
from orchestrator.network.demands import Demands
from orchestrator.network.journal import Journal
from orchestrator.network.pace import Pace
from orchestrator.network.server import setup_message
from orchestrator.rounds.build import build_encoder, model_size
from orchestrator.rounds.sums import secagg_policy
from orchestrator.secagg import messages as secagg
from orchestrator.secagg.server import Server
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.wire import encode

if TYPE_CHECKING:
    from models.client_result import ClientResult
    from models.local_training import Trainer

NAMES = tuple(ClientId(f"client {i}") for i in range(5))
WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "at", "the", "house", "of", "my", "friend", "in", "class"))
CONFIG = read_config(
    overrides={
        "seed": 2**63 - 5, "rounds.count": 3, "rounds.cohort_size": len(NAMES), "model.vocabulary_size": 14,
        "model.embedding_size": 3, "model.num_cells": 5, "client.batch_size": 2,
    }
)  # fmt: skip
SIZE = model_size(CONFIG.model, WORDS.size)
SETUP = setup_message(CONFIG, WORDS)
NUM_TOKENS, NUM_EXAMPLES = 7, 3
VALUES = (
    0,
    1,
    5,
    7.5,
    10,
    14,
    20,
    1000,
    -1,
    10**6,
    2**31 - 1,
    2**31,
    2**64,
    1e-320,
    1e308,
    "",
    "x",
    "median",
    "plain",
    None,
    True,
    [],
)
FEDERATED = ("data", "model", "client", "rounds", "aggregation")  # what a client reads of a run


def trainer(config: RunConfig, size: ModelSize) -> Trainer:
    """Training that every language does alike: the update is a quarter of the weights."""

    def train(weights: Weights, *_: object) -> ClientResult:
        delta = tuple(np.float32(tensor * np.float32(0.25)) for tensor in weights)
        counts = {"num_tokens": NUM_TOKENS, "num_examples": NUM_EXAMPLES}
        return {"delta": delta, "loss_sum": 1.0, "is_finite": True, **counts}

    return train


def identity(index: int) -> Ed25519PrivateKey:
    """Returns a client's key."""
    return Ed25519PrivateKey.from_private_bytes(Draws(f"participant {index}").draw(32))


def public(index: int) -> bytes:
    """Returns what the roster holds of a client."""
    return identity(index).public_key().public_bytes_raw()


def participant(index: int = 0) -> Participant:
    """Returns a client before any message."""
    enrolled = frozenset(map(public, range(len(NAMES))))
    demands = Demands(secagg_policy(CONFIG.aggregation))
    text = ("see you at the house", "my friend")
    pace, journal = Pace(0.0, print), Journal(None)
    return Participant(NAMES[index], identity(index), enrolled, demands, text, journal, pace, build_trainer=trainer)


def plan(
    round_num: int = 1, rate: float = 1.0, first: float = 0.5, last: float = 1.0, num_bytes: int = 4 * SIZE.num_weights
) -> bytes:
    """Returns a Plan; `first` and `last` are weights."""
    flat = np.linspace(-1.0, 1.0, SIZE.num_weights, dtype=np.float32)
    flat[0], flat[-1] = first, last
    return encode(messages.Plan(round_num, rate, memoryview(flat.astype("<f4").tobytes()[:num_bytes])))


def step(round_num: int, stage: str, body: bytes = b"") -> bytes:
    """Returns a Step."""
    return encode(messages.Step(round_num, stage, memoryview(body)))


def participant_vectors() -> dict[str, object]:
    """Returns the file's content."""
    draws = Draws("participant draws")
    talk = [{"message": m.hex(), "answer": None if a is None else a.hex()} for m, a in _conversation(draws)]
    return {
        "client_id": NAMES[0],
        "identity": identity(0).private_bytes_raw().hex(),
        "roster": {name: public(index).hex() for index, name in enumerate(NAMES)},
        "draws": [octets.hex() for octets in draws.drawn],
        "trained": {"scale": 0.25, "num_tokens": NUM_TOKENS, "num_examples": NUM_EXAMPLES},
        "setup": SETUP.hex(),
        "agreed": messages.agreed_digest(SETUP, plan()).hex(),
        "conversation": talk,
        "refusals": [refusal(participant(), lie, told, SETUP) for lie, told in _lies()],
        "values": VALUES,
        "settings": {f"{s}.{n}": _outcomes(s, n) for s in FEDERATED for n in msgspec.to_builtins(CONFIG)[s]},
    }


def _conversation(draws: Draws) -> Iterator[tuple[bytes, Optional[bytes]]]:
    """Setup, a round that ends well though one client vanishes, one that the client declines, and a goodbye."""
    clients = [participant(index) for index in range(len(NAMES))]
    with draws.used():
        yield SETUP, clients[0].answer(SETUP)
    for client in clients[1:]:
        client.answer(SETUP)
    for round_num in (1, 2):
        agreed = messages.agreed_digest(SETUP, plan(round_num))
        num_slots = build_encoder(CONFIG, SIZE).num_slots
        with Draws(f"participant server {round_num}").used():
            policy = secagg_policy(CONFIG.aggregation)
            server = Server(tuple(map(public, range(len(NAMES)))), num_slots, policy, round_num, 3, 1, agreed)
        for client in clients:
            answer = client.answer(plan(round_num))
            if client is clients[0]:
                yield plan(round_num), answer
        opened = (server.invitations, server.rosters, server.deliveries, server.survivors, server.requests)
        for stage, open_stage in zip(secagg.STAGES, opened):
            for index, body in list(open_stage()):
                if stage == "upload" and index == 4:
                    continue
                if round_num == 2 and stage == "shares" and index == 0:
                    found = secagg.decode(body, secagg.Roster, 1 << 20)
                    body = encode(msgspec.structs.replace(found, neighbours=found.neighbours[:2]))
                message = step(round_num, stage, body)
                with draws.used() if index == 0 else Draws(f"participant {index} {round_num} {stage}").used():
                    answer = clients[index].answer(message)
                if index == 0:
                    yield message, answer
                if round_num == 2 and stage == "shares":
                    break
                server.receive(index, bytes(messages.decode(answer, messages.TO_SERVER).body))
            if round_num == 2 and stage == "shares":
                break
    goodbye = encode(messages.Goodbye("all rounds are done\n\x1b\u202e"))
    yield goodbye, clients[0].answer(goodbye)


def refusal(client: Participant, lie: str, told: Sequence[bytes], setup: bytes) -> dict[str, object]:
    """Returns a lie's entry: the messages, of which the client refuses the last; `setup` stands there by its name."""
    *before, last = told
    for message in before:
        client.answer(message)
    try:
        client.answer(last)
    except OrchestratorError as error:
        named = ["setup" if message == setup else message.hex() for message in told]
        return {"lie": lie, "messages": named, "error": type(error).__name__, "text": str(error)}
    raise AssertionError(f"{lie}: the client took it")


def _lies() -> Iterator[tuple[str, list[bytes]]]:
    yield "no message", [b""]
    yield "a byte after the end", [SETUP + b"\0"]
    yield "another version", [SETUP.replace(b"network/2/", b"network/1/")]
    yield "no JSON", [encode(messages.Setup(b"{", list(WORDS.words)))]
    yield "no words", [encode(messages.Setup(msgspec.json.encode(CONFIG), []))]
    yield "no configuration", [encode(messages.Setup(b'{"seed": "x"}', list(WORDS.words)))]
    for words in (["no", "special", "words"], list(WORDS.words[:4]), [*WORDS.words, "see"], [*WORDS.words, "a b"],
                  [*WORDS.words, ""], [*WORDS.words, "a\x1fb"]):  # fmt: skip
        yield f"words {words[-1:]}", [encode(messages.Setup(msgspec.json.encode(CONFIG), words))]
    yield "a plan before the setup", [plan()]
    yield "a step before the setup", [step(1, "advertise")]
    yield "a round of no plan before the setup", [step(0, "advertise")]
    yield "a step before the plan", [SETUP, step(1, "advertise")]
    yield "a round of no plan", [SETUP, step(0, "advertise")]
    yield "another setup", [SETUP, setup_message(msgspec.structs.replace(CONFIG, seed=4), WORDS)]
    yield "a round twice", [SETUP, plan(1), plan(1)]
    yield "an earlier round", [SETUP, plan(2), plan(1)]
    for round_num in (0, 4, 2**32 - 1):
        yield f"round {round_num} of 3", [SETUP, plan(round_num)]
    for rate in (-1.0, 10.5, 1e30, math.inf, math.nan):
        yield f"a learning rate of {rate}", [SETUP, plan(rate=rate)]
    for first in (-2e3, 3e38, math.inf, math.nan):
        yield f"a weight of {first}", [SETUP, plan(first=first)]
    yield "a last weight of nan", [SETUP, plan(last=math.nan)]
    yield "fewer weights", [SETUP, plan(num_bytes=4)]
    yield "a step of another round", [SETUP, plan(2), step(1, "advertise")]
    for stage in ("encrypt", "nonsense"):
        yield f"the stage {stage}", [SETUP, plan(), step(1, stage)]
    for stage in secagg.STAGES[1:]:
        yield f"{stage} before the invitation", [SETUP, plan(), step(1, stage)]
    yield "an empty invitation", [SETUP, plan(), step(1, "advertise")]
    larger = secagg.Invitation(bytes(32), 1, 0, 1 << 20, 602, 344, 2, 10)
    yield "a cohort larger than the roster", [SETUP, plan(), step(1, "advertise", encode(larger))]


def _outcomes(section: str, name: str) -> list[str]:
    """What a client says to a run with each of VALUES in place of one setting: an error's name, or nothing."""
    found = []
    for value in VALUES:
        sections = msgspec.to_builtins(CONFIG)
        sections[section][name] = value
        try:
            participant().answer(encode(messages.Setup(json.dumps(sections).encode(), list(WORDS.words))))
        except OrchestratorError as error:
            found.append(type(error).__name__)
        else:
            found.append("")
    return found

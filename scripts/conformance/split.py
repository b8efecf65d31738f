"""split.json: what a client of the split sum answers, message by message, what it refuses, and how a run is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from conformance.draws import Draws
from conformance.participant import CONFIG, NAMES, SIZE, WORDS, identity, plan, public, refusal, step, trainer
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.errors import OrchestratorError
from orchestrator.network import messages as network
from orchestrator.network.client import Participant
from orchestrator.network.demands import Demands
from orchestrator.network.journal import Journal
from orchestrator.network.pace import Pace
from orchestrator.network.server import setup_message
from orchestrator.rounds.build import build_encoder
from orchestrator.rounds.sums import secagg_policy
from orchestrator.run.identity import run_digest
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.split import messages
from orchestrator.split.client import SplitClient, Told
from orchestrator.split.hpke import seal
from orchestrator.wire import encode

HELPERS = tuple(
    X25519PrivateKey.from_private_bytes(Draws(f"split helper {i}").draw(32)).public_key().public_bytes_raw()
    for i in range(5)
)
LEAST = 3
SPLIT = msgspec.structs.replace(
    CONFIG, aggregation=msgspec.structs.replace(CONFIG.aggregation, aggregator="split", min_survivors=LEAST)
)
SETUP = setup_message(SPLIT, WORDS)
RUN = bytes.fromhex(run_digest(SPLIT, WORDS))
NUM_SLOTS = build_encoder(SPLIT, SIZE).num_slots
TOLD = Told(b"\x11" * 32, 7, b"\x12" * 32, 2)
VECTOR = np.frombuffer(Draws("split vector").draw(28), "<u4")
RUNS: list[tuple[dict[str, object], Sequence[str]]] = [
    ({}, ("see", "you")),
    (
        {"seed": 2**63 - 1, "data.source": "mine.jsonl", "data.vocabulary": "public", "runtime.workers": "3"},
        ("как", "é"),
    ),
    ({"aggregation.groups": 3, "aggregation.helpers": 2, "rounds.cohort_size": 15, "fleet.day_swing": 2.5}, ("a",)),
    ({"privacy.noise_memory_mib": 4, "data.forgotten": 'zoë "x" \\ \u2028', "model.initial_range": 1e-7}, ("a",)),
    ({"data.tokeniser": 1, "data.min_people": 1, "data.language": "none", "client.learning_rate": 1e22}, ("a",)),
    (
        {
            "privacy.clip_quantile": 0.25,
            "aggregation.complete_up_to": 0,
            "server.epsilon": 5e-324,
            "data.min_people": 3,
        },
        ("a",),
    ),
]


def split() -> dict[str, object]:
    """Returns the file's content."""
    return {
        "hpke": _hpke(),
        "runs": [_run(overrides, words) for overrides, words in RUNS],
        "uploads": [_upload(number) for number in (1, 3)],
        "refusals": list(_refusals()),
        "participant": _participant(),
    }


def _hpke() -> dict[str, str]:
    draws, private = Draws("hpke"), X25519PrivateKey.from_private_bytes(Draws("hpke private").draw(32))
    recipient, info, plain, aad = private.public_key().public_bytes_raw(), b"info", b"plain", b"bound"
    with draws.used():
        sealed = seal(recipient, info, plain, aad)
    return {
        "public": recipient.hex(), "info": info.hex(), "plain": plain.hex(), "aad": aad.hex(),
        "ephemeral": draws.drawn[0].hex(), "sealed": sealed.hex(),
    }  # fmt: skip


def _run(overrides: dict[str, object], own_words: Sequence[str]) -> dict[str, object]:
    config, words = read_config(overrides=overrides), Vocabulary((*SPECIAL_WORDS, *own_words))
    return {
        "config": msgspec.json.encode(config).decode(), "words": list(words.words), "name": run_digest(config, words),
    }  # fmt: skip


def _terms(num_helpers: int = 1, **changes: object) -> messages.RoundTerms:
    digest = messages.helpers_digest(HELPERS[:num_helpers])
    return msgspec.structs.replace(messages.RoundTerms(TOLD.run, 7, 1, 0, len(VECTOR), LEAST, digest), **changes)


def _client(num_helpers: int = 1, answered: frozenset[tuple[bytes, int]] = frozenset()) -> SplitClient:
    return SplitClient(NAMES[0], identity(0), HELPERS[:num_helpers], LEAST, set(answered))


def _told(told: Told) -> dict[str, object]:
    return {
        "run": told.run.hex(), "version": told.version, "agreed": told.agreed.hex(), "num_groups": told.num_groups,
    }  # fmt: skip


def _upload(num_helpers: int) -> dict[str, object]:
    terms, draws = _terms(num_helpers), Draws(f"split upload {num_helpers}")
    with draws.used():
        answer = _client(num_helpers).mask(encode(terms), VECTOR, TOLD)
    return {
        "helpers": [key.hex() for key in HELPERS[:num_helpers]], "helpers_digest": terms.helpers.hex(),
        "terms": encode(terms).hex(), "terms_digest": terms.digest.hex(), "told": _told(TOLD),
        "vector": VECTOR.tolist(), "draws": [octets.hex() for octets in draws.drawn], "answer": answer.hex(),
    }  # fmt: skip


def _refusals() -> Iterator[dict[str, object]]:
    """Each lie about a round, told to a client with one helper."""
    cut, past = encode(_terms())[:-1], frozenset({(TOLD.run, 7)})
    for lie, wire, told, answered in (
        ("no terms", b"", TOLD, frozenset()),
        ("terms that are cut off", cut, TOLD, frozenset()),
        ("bytes after the terms", encode(_terms()) + b"\0", TOLD, frozenset()),
        ("a message of another type", encode(messages.Model(7, bytes(32))), TOLD, frozenset()),
        ("terms that are too long", bytes(300), TOLD, frozenset()),
        ("another run", encode(_terms(run=b"\x13" * 32)), TOLD, frozenset()),
        ("a group that the run has not", encode(_terms(group=2)), TOLD, frozenset()),
        ("old weights in a synchronous round", encode(_terms(max_staleness=1)), TOLD, frozenset()),
        ("weights of an earlier round", encode(_terms()), replace(TOLD, version=6), frozenset()),
        ("weights of a later round", encode(_terms()), replace(TOLD, version=8), frozenset()),
        ("another helper", encode(_terms(helpers=messages.helpers_digest(HELPERS[1:2]))), TOLD, frozenset()),
        ("a helper more", encode(_terms(2)), TOLD, frozenset()),
        ("a smaller crowd", encode(_terms(min_contributions=LEAST - 1)), TOLD, frozenset()),
        ("a round twice", encode(_terms()), TOLD, past),
    ):
        try:
            _client(answered=answered).mask(wire, VECTOR, told)
        except OrchestratorError as error:
            named = {"error": type(error).__name__, "text": str(error)}
            yield {"lie": lie, "terms": wire.hex(), "told": _told(told), "is_answered": bool(answered), **named}
            continue
        raise AssertionError(f"{lie}: the client took it")


def _split_plan(number: int = 1, terms: bytes = b"", **changes: object) -> bytes:
    """A Plan with terms: the honest ones, if none are given."""
    digest = messages.helpers_digest(HELPERS[:1])
    own = msgspec.structs.replace(messages.RoundTerms(RUN, number, 0, 0, NUM_SLOTS, LEAST, digest), **changes)
    found = network.decode(plan(number), network.TO_CLIENT)
    return encode(msgspec.structs.replace(found, terms=terms or encode(own)))


def _taking_part() -> Participant:
    enrolled = frozenset(map(public, range(len(NAMES))))
    demands = Demands(replace(secagg_policy(SPLIT.aggregation), min_survivors=LEAST), "split")
    pace, journal = Pace(0.0, print), Journal(None)
    own = NAMES[0], identity(0), enrolled, demands, ("see you at the house", "my friend"), journal, pace
    return Participant(*own, build_trainer=trainer, helpers=HELPERS[:1])


def _participant() -> dict[str, object]:
    """A conversation of two rounds, and a table of lies around the protocol."""
    client, draws = _taking_part(), Draws("split participant")
    with draws.used():
        talk = [(message, client.answer(message)) for message in (SETUP, _split_plan(1), _split_plan(3))]
    return {
        "setup": SETUP.hex(), "helpers": [HELPERS[0].hex()], "min_survivors": LEAST,
        "draws": [octets.hex() for octets in draws.drawn],
        "conversation": [{"message": m.hex(), "answer": None if a is None else a.hex()} for m, a in talk],
        "refusals": list(_lies()),
    }  # fmt: skip


def _with(**aggregation: object) -> RunConfig:
    return msgspec.structs.replace(SPLIT, aggregation=msgspec.structs.replace(SPLIT.aggregation, **aggregation))


def _lies() -> Iterator[dict[str, object]]:
    for lie, told in (
        ("another sum", [setup_message(_with(aggregator="secagg"), WORDS)]),
        ("a helper that this client does not know", [setup_message(_with(helpers=2), WORDS)]),
        ("no terms", [SETUP, plan(1)]),
        ("the terms of another run", [SETUP, _split_plan(run=bytes(32))]),
        ("the terms of another round", [SETUP, _split_plan(1, round_num=2)]),
        ("another helper", [SETUP, _split_plan(helpers=messages.helpers_digest(HELPERS[1:2]))]),
        ("a smaller crowd", [SETUP, _split_plan(min_contributions=2)]),
        ("a sum of another length", [SETUP, _split_plan(num_slots=NUM_SLOTS + 1)]),
        ("a round twice", [SETUP, _split_plan(1), _split_plan(1)]),
        ("a stage of another sum", [SETUP, _split_plan(1), step(1, "advertise")]),
    ):
        yield refusal(_taking_part(), lie, told, SETUP)

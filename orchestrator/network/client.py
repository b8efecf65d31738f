"""One client as bytes in and bytes out: its text, its training, its half of the protocol. Loads no TFF.

The client's text, update and keys stay in here: only what the protocol sends leaves, masked or encrypted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Callable, Optional

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.client_data import Sentences
from models.corpus import ClientId
from models.vocabulary import Vocabulary
from models.weights import ModelSize, Weights, weights_from_bytes
from orchestrator.aggregator import Vector
from orchestrator.encoding import l2_norm, zeros_like
from orchestrator.errors import ConfigError
from orchestrator.network import messages
from orchestrator.network.demands import Demands
from orchestrator.network.errors import DemandRefused, KeysError, RunChanged, WireError
from orchestrator.network.journal import Journal
from orchestrator.network.own_text import segmented
from orchestrator.network.pace import Pace, load_warm_trainer
from orchestrator.rounds.build import (
    build_encoder,
    client_weight,
    cut,
    draw_batches,
    model_size,
    require_all_train,
)
from orchestrator.run.identity import run_digest
from orchestrator.secagg.client import Client as SecAggClient
from orchestrator.secagg.errors import TooFewPeers
from orchestrator.seeds import Purpose, dropout_seed, simulation_rng
from orchestrator.settings.run_config import RunConfig
from orchestrator.split.client import SplitClient, Told
from orchestrator.wire import as_one_line, encode

if TYPE_CHECKING:
    from models.local_training import Trainer


class Participant:
    """Answers the server's messages as one client; knows nothing of connections.

    Args:
      client_id: the client's name on the roster.
      identity: the client's long-term key.
      enrolled: the identities that may take part, as public keys of 32 bytes; not the server's copy.
      demands: what the client insists on, whatever the server says.
      sentences: the client's text, tokenised.
      journal: the rounds that the client answered, in earlier processes too.
      pace: when the answers leave that depend on the text.
      decryptor: the Ed25519 public key of the decryptor whose terms it encrypts under; None refuses all.
      build_trainer: builds the trainer; None takes TensorFlow's, which is loaded once the server lets the client in.
      helpers: the X25519 public keys of the split sum's helpers, all of which it seals for.
    """

    def __init__(
        self,
        client_id: ClientId,
        identity: Ed25519PrivateKey,
        enrolled: Collection[bytes],
        demands: Demands,
        sentences: tuple[str, ...],
        journal: Journal,
        pace: Pace,
        decryptor: Optional[bytes] = None,
        build_trainer: Optional[Callable[[RunConfig, ModelSize], Trainer]] = None,
        helpers: Sequence[bytes] = (),
    ):
        self.client_id = client_id
        self._identity, self._enrolled, self._demands = identity, enrolled, demands
        self._text, self._journal, self._pace, self._decryptor = sentences, journal, pace, decryptor
        self._build_trainer, self._helpers = build_trainer or load_warm_trainer, helpers
        self._config: Optional[RunConfig] = None
        self._setup = self._agreed = b""  # the bytes of the one; the digest of what a round's clients are told alike
        self._sentences: Optional[Sentences] = None  # once they were asked for
        self._run = ""  # its name in the split sum
        self._round_num = 0  # of the last plan
        self._seen_sessions: set[bytes] = set()
        self._answered: set[tuple[bytes, int]] = set()  # the runs and rounds of the split sum
        self._secagg: Optional[SecAggClient] = None
        self._vector: Optional[Vector] = None
        self.goodbye: Optional[str] = None  # why the server let it go

    def answer(self, message: bytes) -> Optional[bytes]:
        """Returns the answer to the server's message, or None if the message wants none.

        Raises:
          WireError: the bytes are no message, or come out of turn.
          RunChanged: the server sends other settings or words than before.
          DemandRefused: the server asks for another sum, or for more work, than the client takes part in.
          SecAggError, HomomorphicError, SplitError: the server asks for something that could expose the client.
          KeysError: the journal can't be written, or the keys lack what the sum needs.
        """
        found = messages.decode(message, messages.TO_CLIENT)
        if isinstance(found, messages.Goodbye):
            self.goodbye = as_one_line(found.reason)
            return None
        if isinstance(found, messages.Setup):
            self._set_up(found, message)
            return None
        if isinstance(found, messages.Plan):
            self._agreed = messages.agreed_digest(self._setup, message)
        stage = found.stage if isinstance(found, messages.Step) else "train"
        try:
            body = self._step(found) if isinstance(found, messages.Step) else self._train(found)
        except TooFewPeers as error:  # happens to an honest server too: not this round
            self._secagg = self._vector = None
            return encode(messages.Decline(found.round_num, stage, str(error)))
        return encode(messages.Answer(found.round_num, stage, memoryview(body)))

    def _set_up(self, setup: messages.Setup, message: bytes) -> None:
        if self._config is not None:
            if message != self._setup:
                raise RunChanged("the server sent another configuration or vocabulary than it began with")
            return
        try:
            config = msgspec.json.decode(setup.config, type=RunConfig)
            vocabulary = Vocabulary(tuple(setup.words))
        except (msgspec.MsgspecError, ValueError):
            raise WireError("the server's configuration or vocabulary is not one of this fedkeys") from None
        except ConfigError as error:
            raise DemandRefused(f"the server's settings can't be trained with: {error}") from None
        self._demands.check_run(config, vocabulary.size, len(self._helpers))
        try:
            require_all_train(config.model)
            self._size = model_size(config.model, vocabulary.size)
            self._encoder = build_encoder(config, self._size)
            self._trainer = self._build_trainer(config, self._size)
        except (ConfigError, ValueError) as error:
            raise DemandRefused(f"the server's settings can't be trained with: {error}") from None
        self._vocabulary, self._sentences = vocabulary, None
        self._config, self._setup, self._run = config, message, run_digest(config, vocabulary)

    def _train(self, plan: messages.Plan) -> bytes:
        """Trains, encodes the update and resets the protocol; in the split sum the upload is the answer."""
        config, round_num = self._config, plan.round_num
        if config is None:
            raise WireError(f"round {round_num}: the server has sent no configuration before")
        self._demands.check_round(round_num, config)
        self._secagg = self._vector = None
        self._journal.spend(config.seed, round_num)  # before anything leaves, or takes a time that could be seen
        self._round_num = round_num
        try:
            weights = weights_from_bytes(bytes(plan.weights), self._size)
        except ValueError as error:
            raise WireError(f"round {round_num}: {error}") from None
        self._demands.check_plan(round_num, plan.learning_rate, weights)
        with self._pace.held("training"):
            vector = self._trained(config, plan, weights)
            if self._demands.aggregator == "split":
                return self._mask(plan, vector)
        self._vector = vector
        return b""

    def _trained(self, config: RunConfig, plan: messages.Plan, weights: Weights) -> Vector:
        """The client's encoded update: all that a round makes of the text."""
        round_num = plan.round_num
        if self._sentences is None:  # not at the setup, since the time that it takes tells how much was typed
            capped = segmented(self._text[: config.data.max_sentences_train], config.data.segmenter)
            self._sentences = cut(tuple(map(self._vocabulary.encode, capped)), self._size.vocabulary_size)
        batches = draw_batches(
            config, self._sentences, simulation_rng(config.seed, Purpose.BATCHES, round_num, self.client_id)
        )
        seed = dropout_seed(config.seed, round_num)
        result = self._trainer(weights, plan.learning_rate, seed, batches)
        delta = tuple(result["delta"])
        weight = client_weight(config.client, int(result["num_tokens"]), int(result["num_examples"]))
        if not (result["is_finite"] and math.isfinite(l2_norm(delta))):
            # A server may send weights that overflow for one word only: nothing that leaves here tells whether.
            delta, weight = zeros_like(delta), 0.0
        rounding = simulation_rng(config.seed, Purpose.ROUNDING, round_num, self.client_id)
        return self._encoder.encode(delta, weight, rounding)

    def _step(self, step: messages.Step) -> bytes:
        """One message of the protocol and its answer."""
        body, where = bytes(step.body), f"round {step.round_num}, {step.stage}"
        if not self._round_num:
            raise WireError(f"{where}: the server has sent no plan before")
        if step.round_num != self._round_num:
            raise WireError(f"{where}: the server's last plan was for round {self._round_num}")
        self._demands.check_stage(step.stage, where)
        if step.stage == "advertise":
            assert self._config is not None  # there was a plan
            most = min(self._config.rounds.cohort_size, len(self._enrolled))
            policy = dataclasses.replace(self._demands.policy, max_clients=most)
            self._secagg = SecAggClient(self._identity, self._enrolled, policy, self._seen_sessions, self._agreed)
        if step.stage in ("upload", "encrypt"):
            vector, self._vector = self._vector, None  # given away once
            if vector is None:
                raise WireError(f"{where}: the server has sent no plan before")
            protect = self._encrypt if step.stage == "encrypt" else self._require_secagg(where).mask
            try:
                return protect(body, vector)
            except ValueError as error:
                raise DemandRefused(f"{where}: the server sums vectors of another length: {error}") from None
        client = self._require_secagg(where)
        answers = {
            "advertise": client.advertise,
            "shares": client.share,
            "consistency": client.consent,
            "unmask": client.unmask,
        }
        return answers[step.stage](body)

    def _mask(self, plan: messages.Plan, vector: Vector) -> bytes:
        client = SplitClient(
            self.client_id, self._identity, self._helpers, self._demands.policy.min_survivors, self._answered
        )
        assert self._config is not None  # there was a plan
        num_groups = self._config.aggregation.groups
        told = Told(bytes.fromhex(self._run), plan.round_num, self._agreed, num_groups)
        try:
            return client.mask(plan.terms, vector, told)
        except ValueError as error:
            raise DemandRefused(f"round {plan.round_num}: the server sums other vectors: {error}") from None

    def _require_secagg(self, where: str) -> SecAggClient:
        if self._secagg is None:
            raise WireError(f"{where}: the server has sent no invitation before")
        return self._secagg

    def _encrypt(self, terms: bytes, vector: Vector) -> bytes:
        if self._decryptor is None:
            raise KeysError("the server runs the encrypted sum, but this client's keys hold no decryptor_identity.pub")
        # Only here: SEAL's package comes for x86-64 alone, and the other sums need none of it.
        from orchestrator.homomorphic.client import ClientEncryptor

        encryptor = ClientEncryptor(
            self.client_id,
            self._identity,
            self._decryptor,
            self._demands.policy.min_survivors,
            self._seen_sessions,
            self._agreed,
        )
        return encryptor.encrypt(terms, vector)

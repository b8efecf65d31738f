"""Shows what the server saw of one client in a round, beside what a server that adds in the clear would have seen."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.batches import Batches
from models.client_data import ClientData
from models.client_result import ClientResult
from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.aggregator import Cohort, DropStage, Vector
from orchestrator.audit.statistics import FALSE_ALARM_RATE, correlation, uniformity
from orchestrator.audit.transcript_results import NUM_SHOWN, TranscriptResult, UpdateNorm, Upload
from orchestrator.audit.witness import Witness, encrypt_upload, mask_upload
from orchestrator.errors import RunFolderError
from orchestrator.rounds.build import (
    NoStopwatch,
    build_encoder,
    build_groups,
    client_weight,
    cut,
    draw_batches,
    learning_rates,
    load_trainer,
)
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import RoundFunctions, RoundReport, ServerState
from orchestrator.run.canary_clients import build_canaries, canary_names, participants
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from orchestrator.settings.model import frozen_places
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig
from orchestrator.units import count_text

NUM_PICTURED = 4800  # bytes


def read_transcript(
    run: Run, round_num: Optional[int], client_id: Optional[str], note: Callable[[str], None]
) -> TranscriptResult:
    """Returns what `fedkeys transcript` shows: one client's upload in the clear, under masks and encrypted.

    The round is computed again from the checkpoint before it, with the run's own functions and all its survivors. Their
    vectors are summed by secure aggregation, and what the server receives of the client is kept. The client's vector is
    also encrypted as in the encrypted sum, and masked as in the split sum. Keys are fresh: masks and ciphertexts differ
    each time.

    Args:
      run: its checkpoint before the round is still there.
      round_num: a completed round; None takes the last one that can be shown.
      client_id: a survivor of the round; None takes the first.
      note: is told what begins.

    Raises:
      RunFolderError: the round or the client can't be shown, or the text is not the run's.
      WeakParameters: the cohort is too small for secure aggregation.
    """
    run.require_rounds()
    if run.config.privacy.traits.from_clients:
        raise RunFolderError(
            f"{run.path}: its clients add noise (privacy.mechanism = {run.config.privacy.mechanism!r}), and a "
            "transcript of their vectors without it would show what no server saw"
        )
    report = _find_round(run, round_num)
    client = _find_client(report, canary_names(run.config.audit), client_id)
    state = run.folder.load_checkpoint(report.round_num - 1)
    note("reading the text")
    data = _read_text(run, report)
    note("loading TensorFlow")
    witness = Witness(run.config.aggregation, (client,))
    note(f"computing round {report.round_num} again: {count_text(len(report.survivors), 'client')} train and mask")
    again = _run_again(run.config, data, state, report, witness)
    if again.outcome != "completed":
        raise RunFolderError(f"secure aggregation could not have summed round {report.round_num}: {again.reason}")
    note("encrypting the client's vector, and masking it for the split sum")
    size, vocabulary = ModelSize.of(state.weights, run.config.model.kind), run.vocabulary
    typed = _typed(data, client, vocabulary, size)
    biases = size.place_of(size.role("output_bias"), frozen_places(run.config.model, size))
    plain, masked, encrypted, split = _uploads(
        run.config.aggregation, witness, client, report.round_num, biases, vocabulary
    )
    return TranscriptResult(
        round_num=report.round_num,
        client=client,
        aggregator=run.config.aggregation.aggregator,
        mechanism=run.config.privacy.mechanism,
        update_norm=UpdateNorm(report.metrics.get("update_norm"), again.metrics["update_norm"]),
        false_alarm_rate=FALSE_ALARM_RATE,
        plain=plain,
        masked=masked,
        encrypted=encrypted,
        split=split,
        typed=typed,
        typed_share=len(typed) / (size.vocabulary_size - NUM_SPECIAL),
    )


def _uploads(
    settings: AggregationConfig,
    witness: Witness,
    client: ClientId,
    round_num: int,
    biases: slice,
    vocabulary: Vocabulary,
) -> tuple[Upload, Upload, Upload, Upload]:
    """Returns what a server receives of the client: in the clear, masked, encrypted, and in the split sum."""
    plain, masked = witness.plain[client], witness.masked[client]
    ciphertexts, slots = encrypt_upload(settings, client, round_num, plain)

    def in_words(received: Vector) -> Upload:
        return msgspec.structs.replace(
            upload_of(received.view(np.uint8)),
            first_words=tuple(received[:NUM_SHOWN].tolist()),
            loudest=_loudest_words(received[biases], vocabulary),
            correlation=None if received is plain else correlation(plain, received.view(np.int32)),
        )

    return (
        in_words(plain),
        in_words(masked),
        msgspec.structs.replace(
            upload_of(ciphertexts),
            first_bytes=ciphertexts[: 4 * NUM_SHOWN].tobytes().hex(),
            correlation=correlation(plain, slots),
        ),
        in_words(mask_upload(client, round_num, plain, settings.helpers)),
    )


def upload_of(octets: NDArray[np.uint8]) -> Upload:
    """Returns what can be said of any upload, from its bytes."""
    counts = np.bincount(octets, minlength=256)
    return Upload(
        bytes=octets.nbytes,
        uniform_bytes=uniformity(counts),
        byte_counts=tuple(counts.tolist()),
        picture=base64.b64encode(octets[:NUM_PICTURED].tobytes()).decode(),
    )


def _find_round(run: Run, round_num: Optional[int]) -> Round:
    kept = set(run.folder.checkpoints())
    possible = {r.round_num: r for r in run.rounds if r.outcome == "completed" and r.round_num - 1 in kept}
    if possible and round_num is None:
        return possible[max(possible)]
    if round_num in possible:
        return possible[round_num]
    names = ", ".join(map(str, possible)) or "none: set rounds.keep_checkpoints and rounds.checkpoint_every"
    which = "no round" if round_num is None else f"round {round_num}"
    can_t = "can" if round_num is None else "can't"
    raise RunFolderError(
        f"{which} of {run.path} {can_t} be shown: it takes a completed round whose checkpoint before is "
        f"kept; here that is {names}"
    )


def _find_client(report: Round, canaries: Collection[ClientId], client_id: Optional[str]) -> ClientId:
    people = [name for name in report.survivors if name not in canaries]
    if not people:
        raise RunFolderError(f"round {report.round_num} summed canary clients only: name another round")
    if client_id is not None and client_id not in people:
        raise RunFolderError(
            f"client {client_id} sent no update in round {report.round_num}; these did: {', '.join(people)}"
        )
    return ClientId(client_id or people[0])


def _read_text(run: Run, report: Round) -> ClientData:
    data = run.text.data
    here = participants(run.config, data)
    elsewhere = [name for name in report.survivors if name not in here]
    if elsewhere:
        raise RunFolderError(
            f"round {report.round_num} can't be computed again here: client {elsewhere[0]} is no training person of "
            f"{run.config.data.source}"
        )
    return data


def _run_again(config: RunConfig, data: ClientData, state: ServerState, report: Round, witness: Witness) -> RoundReport:
    size, seed, round_num = ModelSize.of(state.weights, config.model.kind), config.seed, report.round_num
    trainer = load_trainer(config, size)
    client_rate, server_rate = learning_rates(config, round_num)

    def train_clients(
        weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[ClientResult]:
        return (trainer(weights, learning_rate, seed, own) for own in batches)

    functions = RoundFunctions(
        batches_of=lambda person, rng: draw_batches(config, cut(data.train[person], size.vocabulary_size), rng),
        train_clients=train_clients,
        weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
        encoder=build_encoder(config, size),
        aggregator=witness,
        update_server=lambda optimizer_state, weights, mean_delta, rate: (optimizer_state, weights),
        canaries=build_canaries(config, size),
        groups=build_groups(config.aggregation),
    )
    members = tuple(map(ClientId, report.selected))
    # Whoever was not summed need not train again: the sum is that of the survivors.
    drops = {member: DropStage.BEFORE_SHARES for member in members if member not in report.survivors}
    return run_round(
        state,
        Cohort(round_num, members, config.aggregation.min_survivors),
        functions,
        seed=seed,
        client_learning_rate=client_rate,
        server_learning_rate=server_rate,
        stopwatch=NoStopwatch(),
        drops=drops,
    )[1]


def _loudest_words(biases: Vector, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Returns the words whose output bias the update raises most: in the clear, mostly what the client typed.

    None if the output bias is frozen, so that nobody sends it.

    Source: for the bias of the output layer the gradient is the word's predicted minus its true share.
    """
    best = (
        np.argsort(biases.view(np.int32)[NUM_SPECIAL:], kind="stable")[:NUM_SHOWN] + NUM_SPECIAL
    )  # delta = server's minus client's
    return tuple(vocabulary.words[i] for i in best)


def _typed(data: ClientData, client: ClientId, vocabulary: Vocabulary, size: ModelSize) -> tuple[str, ...]:
    """Returns the client's words that the model knows, the most frequent first."""
    ids = np.concatenate(cut(data.train[client], size.vocabulary_size))
    known, counts = np.unique(ids[ids >= NUM_SPECIAL], return_counts=True)
    return tuple(vocabulary.words[i] for i in known[np.argsort(-counts, kind="stable")])

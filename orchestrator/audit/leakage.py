"""Measures a run's privacy, beside what its ledger states: estimates and bounds, each of which says which it is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Optional, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.batches import build_batches
from models.client_data import ClientData
from models.corpus import ClientId
from models.weights import ModelSize, Weights, flatten
from orchestrator.audit.canaries import one_run_bounds, one_shot_estimate
from orchestrator.audit.exposure import exposure
from orchestrator.audit.leakage_results import FILE_NAME, AuditResult, Exposed, Exposure, Stated, WholeRun
from orchestrator.audit.updates import UpdateMaker, choose_people
from orchestrator.audit.views import noise_of
from orchestrator.audit.whole_run import audit_whole_run
from orchestrator.errors import RunFolderError
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.calibration import default_delta
from orchestrator.privacy.ledger import epsilon_spent
from orchestrator.rounds.build import first_weights
from orchestrator.rounds.types import ServerState
from orchestrator.run.canary_clients import build_canaries
from orchestrator.run.identity import digest_of_what_matters
from orchestrator.run.planted import REPEATS, Phrase, draw_phrases, planted_phrases
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run
from orchestrator.run.spent import spent_in_all
from orchestrator.run.start import read_first_weights
from orchestrator.seeds import Purpose, seed_sequence, simulation_rng
from orchestrator.settings.audit import AuditConfig
from orchestrator.settings.model import frozen_places, num_trained
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

NUM_CANARIES = 1000
NUM_GUESSES = 200  # fixed here, before any outcome: a bound picked from several would not hold at its confidence
NUM_ONE_SHOT = 256
NUM_REFERENCES = 4095  # exposures up to 12 bits
_MOST_COORDINATES = 1 << 16
_PHRASES_AT_ONCE = 256
_NO_PHRASES = "no phrases were planted; train a copy with --set audit.phrases=8 and name it with --copy"


def audit_run(
    run: Run, noise_multiplier: Optional[float], note: Callable[[str], None], copy: Optional[Run] = None
) -> AuditResult:
    """Returns what `fedkeys audit` finds, and writes it to DIR/audit.json.

    `one_shot` and `one_run` look at one release: the clipped updates of a cohort from the newest checkpoint, with
    canaries among them, under the noise of one round. They look at some of its coordinates, which can only lower the
    bound. `whole_run` looks at all rounds, if canary clients took part in them.

    Args:
      run: has a checkpoint, and its text is still there.
      noise_multiplier: None takes the run's, 0 if it adds no noise.
      note: is told what begins.
      copy: a copy of the run in whose text phrases were planted; None looks for those of the run itself.

    Raises:
      RunFolderError: there is no checkpoint, or the text is not the run's, or the copy is none.
    """
    config, state = run.config, run.newest
    _require_copy(copy, run)
    note("reading the text")
    data = run.text.data
    privacy, delta = config.privacy, config.privacy.delta or default_delta(len(data.train))
    noise = noise_of(privacy, config.rounds.cohort_size, state.clip_norm, noise_multiplier)
    multiplier = 0.0 if noise.source == "example" else noise.multiplier
    # An adaptive clip also releases a noised count; the ledger charges a round for the sum and the count together.
    charged = privacy.noise_multiplier if privacy.adaptive_clip and noise.source == "run" else multiplier
    note(f"loading TensorFlow, training {count_text(config.rounds.cohort_size, 'client')}")
    release, clip_norm = _clipped_sum(config, data, state, noise.clip_norm)
    seed = int(seed_sequence(config.seed, Purpose.ATTACK, state.round_num).generate_state(1)[0])
    note(f"hiding {NUM_ONE_SHOT} and {NUM_CANARIES} canaries in a round's sum")
    stddev = multiplier * clip_norm
    one_shot = one_shot_estimate(release, stddev, clip_norm, NUM_ONE_SHOT, delta, seed)
    one_run, summed = one_run_bounds(release, stddev, clip_norm, NUM_CANARIES, NUM_GUESSES, delta, seed + 1)
    whole_run = _audit_whole_run(run, state, delta, note)
    exposures = _measure_exposures(run, copy, note)
    result = AuditResult(
        round_num=state.round_num,
        mechanism=privacy.mechanism,
        noise_multiplier=multiplier,
        clip_norm=clip_norm,
        coordinates=release.size,
        delta=delta,
        stated=Stated(
            one_round=Cost(0.5 / charged**2).epsilon(delta) if multiplier else None,
            run=epsilon_spent(run.path),
            run_and_words=spent_in_all(run),
        ),
        one_shot=one_shot,
        one_run=one_run,
        whole_run=whole_run if isinstance(whole_run, WholeRun) else None,
        whole_run_reason=whole_run if isinstance(whole_run, str) else "",
        exposure=exposures,
        exposure_reason=msgspec.UNSET if exposures else _NO_PHRASES,
        summed_scores=summed,
    )
    write_figures(run.path / FILE_NAME, result, private=True)
    return result


def _clipped_sum(
    config: RunConfig, data: ClientData, state: ServerState, clip_norm: float
) -> tuple[NDArray[np.float32], float]:
    """(some coordinates of the sum of a cohort's clipped updates, the clip norm); 0 stands for their median norm."""
    maker = UpdateMaker(config, data, state, config.client.max_sentences)
    size = config.rounds.cohort_size
    people = choose_people(data, config.seed, state.round_num, None, config.client.max_sentences, 0)
    updates = list(maker.updates(people.crowd[:size]))
    clip_norm = clip_norm or statistics.median(update.norm for update in updates)
    frozen, num_sent = frozen_places(config.model, maker.size), num_trained(config.model, maker.size)
    stride = -(-num_sent // _MOST_COORDINATES)
    total = np.zeros(-(-num_sent // stride), np.float32)
    for update in updates:
        factor = np.float32(min(1.0, clip_norm / max(update.norm, 1e-30)))
        total += factor * flatten(update.delta, frozen)[::stride]
    return total, clip_norm


def _audit_whole_run(run: Run, state: ServerState, delta: float, note: Callable[[str], None]) -> Union[WholeRun, str]:
    """Returns the audit of the canary clients that took part in the training, or why there is none."""
    config, size = run.config, ModelSize.of(state.weights, run.config.model.kind)
    canaries = build_canaries(config, size)
    if canaries is None:
        return "no canary client took part; train a run with --set audit.canaries=200"
    note(f"looking for {count_text(len(canaries.members), 'canary client')} in all rounds' sums and in the model")
    began_with = read_first_weights(run.path, run.start, size) or first_weights(config, size, None)
    moved = tuple(first - last for first, last in zip(began_with, state.model))
    reports = [report for report in run.rounds if report.round_num <= state.round_num]
    found = audit_whole_run(
        canaries.members, canaries.included, reports, canaries.inner_products(moved), config.privacy, delta
    )
    return found or "too few canary clients took part to measure anything; train more rounds, or raise audit.canaries"


def _require_copy(copy: Optional[Run], run: Run) -> None:
    """Refuses what is not the same training once more, with phrases in its text; it may have ended after fewer rounds.

    Under differential privacy it may not: fewer rounds get another noise.
    """
    if copy is None:
        return
    if not copy.config.audit.phrases:
        raise RunFolderError(f"{copy.path} has no planted phrases: train it with --set audit.phrases=8")
    is_shorter = copy.config.rounds.count < run.config.rounds.count and not run.config.privacy.traits.adds_noise
    as_the_run = msgspec.structs.replace(
        copy.config,
        audit=msgspec.structs.replace(copy.config.audit, phrases=0, phrase_words=AuditConfig().phrase_words),
        rounds=run.config.rounds if is_shorter else copy.config.rounds,
    )
    settings = [digest_of_what_matters(config) for config in (as_the_run, run.config)]
    made_of = [
        (own.identity.corpus_sha256, own.identity.vocabulary_sha256, own.start and own.start.first_sha256)
        for own in (copy, run)
    ]
    last = min(copy.config.rounds.count, run.newest.round_num) if is_shorter else run.newest.round_num
    if settings[0] != settings[1] or made_of[0] != made_of[1] or copy.newest.round_num != last:
        raise RunFolderError(
            f"{copy.path} is no copy of {run.path}: it has other settings, another text, start or number of rounds; "
            f"train it with --config {run.path / 'config.toml'} --set audit.phrases=8"
        )


def _measure_exposures(run: Run, copy: Optional[Run], note: Callable[[str], None]) -> Optional[Exposure]:
    """Returns how well the newest model of a run, or of its copy, remembers the planted phrases; None if none are."""
    if copy is not None:
        found = _measure_exposures(copy, None, note)
        return None if found is None else found.in_a_copy(copy.newest.round_num, run.newest.round_num)
    config, data, weights = run.config, run.text.data, run.newest.model
    if not config.audit.phrases:
        return None
    note(f"ranking the planted phrases among {NUM_REFERENCES} others")
    planted = planted_phrases(config, data)
    size = ModelSize.of(weights, config.model.kind)

    def losses(phrases: Sequence[NDArray[np.int32]]) -> list[float]:
        return phrase_losses(size, weights, phrases, config.data.max_words).tolist()

    def drawn(count: int, stream: int) -> list[float]:
        rng = simulation_rng(config.seed, Purpose.PHRASES, (1 << 20) + stream)
        return losses(list(draw_phrases(config, data, count, rng)))

    references = drawn(NUM_REFERENCES, 0)
    bits, never_planted = (
        [exposure(loss, references) for loss in own]
        for own in (losses([phrase.words for phrase in planted]), drawn(len(planted), 1))
    )
    took_part = {client for report in run.rounds for client in report.survivors}
    found = summarise_exposures(planted, bits, took_part)
    return msgspec.structs.replace(found, never_planted=_summary(never_planted))


def _summary(bits: Sequence[float]) -> Optional[Exposed]:
    return Exposed(len(bits), statistics.fmean(bits), max(bits)) if bits else None


def summarise_exposures(planted: Sequence[Phrase], bits: Sequence[float], took_part: Collection[ClientId]) -> Exposure:
    """Returns the exposures by how often a phrase was typed, and apart for people who took part in no round.

    Args:
      planted: the phrases.
      bits: their exposures.
      took_part: the people whose update was summed in some round.
    """

    def of(repeats: Collection[int], seen: bool) -> Optional[Exposed]:
        chosen = [b for b, p in zip(bits, planted) if p.repeats in repeats and (p.client_id in took_part) is seen]
        return _summary(chosen)

    return Exposure(
        most_possible=float(np.log2(NUM_REFERENCES + 1)),
        by_repeats={str(repeats): of([repeats], seen=True) for repeats in REPEATS},
        never_took_part=of(REPEATS, seen=False),
    )


def phrase_losses(
    size: ModelSize, weights: Weights, phrases: Sequence[NDArray[np.int32]], max_words: int
) -> NDArray[np.float64]:
    """Returns minus the log-probability, in nats, of each phrase as a whole sentence, float64 [phrases]."""
    import tensorflow as tf

    from models.inference import next_word_probabilities
    from models.model import load_model

    model, constants = load_model(size), tuple(map(tf.constant, weights))
    losses = []
    for start in range(0, len(phrases), _PHRASES_AT_ONCE):
        some = phrases[start : start + _PHRASES_AT_ONCE]
        batches = build_batches(some, batch_size=len(some), time=max_words)
        tokens, targets, mask = (part[0] for part in batches)
        probability, positions = next_word_probabilities(model, constants, tf.constant(tokens), tf.constant(mask))
        of_target = tf.gather_nd(
            probability, np.stack([np.arange(len(positions)), targets[tuple(positions.numpy().T)]], 1)
        )
        nats = -np.log(np.maximum(of_target.numpy().astype(np.float64), 1e-30))
        losses.append(np.bincount(positions.numpy()[:, 0], nats, minlength=len(some)))
    return np.concatenate(losses)

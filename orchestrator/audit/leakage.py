"""What can be measured of a run's privacy, next to what its ledger states: estimates and bounds, each named so."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.batches import build_batches
from models.client_data import ClientData
from models.files import write_atomically
from models.weights import ModelSize, Weights
from orchestrator.audit.canaries import one_run_bound, one_shot_estimate
from orchestrator.audit.exposure import exposure
from orchestrator.audit.leakage_results import FILE_NAME
from orchestrator.audit.updates import UpdateMaker, choose_people
from orchestrator.audit.views import noise_of
from orchestrator.audit.whole_run import audit_whole_run
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.calibration import default_delta
from orchestrator.rounds.build import first_weights
from orchestrator.rounds.types import ServerState
from orchestrator.run.canary_clients import build_canaries
from orchestrator.run.lines import Round
from orchestrator.run.planted import REPEATS, draw_phrases, planted_phrases
from orchestrator.run.saved import Run
from orchestrator.seeds import Purpose, seed_sequence, simulation_rng
from orchestrator.settings.run_config import RunConfig

NUM_CANARIES = 1000
NUM_GUESSES = 200  # fixed here, before any outcome: a bound picked from several would not hold at its confidence
NUM_ONE_SHOT = 256
NUM_REFERENCES = 4095  # exposures up to 12 bits
_MOST_COORDINATES = 1 << 16
_PHRASES_AT_ONCE = 256


def audit_run(run: Run, noise_multiplier: Optional[float], note: Callable[[str], None]) -> dict[str, Any]:
    """The figures of `fedkeys audit`, which are also left in DIR/audit.json.

    `one_shot` and `one_run` look at one release: a cohort's clipped updates from the newest checkpoint, canaries among
    them, under the noise of one round. They see some of its coordinates, which can only make the bound smaller.
    `whole_run` looks at all rounds, if canary clients took part in them.

    Args:
      run: with a checkpoint, whose text is still there.
      noise_multiplier: None takes the run's, 0 if it adds no noise.
      note: is told what begins.

    Raises:
      RunFolderError: there is no checkpoint, or the text is not the run's.
    """
    config, state = run.config, run.newest
    note("reading the text")
    data = run.text.data
    privacy = config.privacy
    noise = noise_of(config, state, noise_multiplier)
    multiplier = 0.0 if noise.source == "example" else noise.multiplier
    # An adaptive clip's count has noise of its own, and the round costs what both tell together.
    charged = privacy.noise_multiplier if privacy.adaptive_clip and noise.source == "run" else multiplier
    delta = privacy.delta or default_delta(len(data.train))
    note(f"loading TensorFlow, training {config.rounds.cohort_size} clients")
    release, clip_norm = _clipped_sum(config, data, state, noise.clip_norm)
    seed = int(seed_sequence(config.seed, Purpose.ATTACK, state.round_num).generate_state(1)[0])
    note(f"hiding {NUM_ONE_SHOT} and {NUM_CANARIES} canaries in a round's sum")
    one_shot = one_shot_estimate(release, multiplier * clip_norm, clip_norm, NUM_ONE_SHOT, delta, seed)
    one_run = one_run_bound(release, multiplier * clip_norm, clip_norm, NUM_CANARIES, NUM_GUESSES, delta, seed + 1)
    reports = run.rounds
    figures: dict[str, Any] = {
        "round_num": state.round_num,
        "mechanism": privacy.mechanism,
        "noise_multiplier": multiplier,
        "clip_norm": clip_norm,
        "coordinates": release.size,
        "delta": delta,
        "stated": {
            "kind": "upper bound",
            "one_round": Cost(0.5 / charged**2).epsilon(delta) if multiplier else None,
            "run": reports[-1].epsilon if reports else None,
        },
        "one_shot": asdict(one_shot),
        "one_run": asdict(one_run),
    }
    figures["whole_run"], figures["whole_run_reason"] = _whole_run(config, state, reports, delta, note)
    if config.audit.phrases:
        note(f"ranking the planted phrases among {NUM_REFERENCES} others")
        figures["exposure"] = _exposures(config, data, state.model, reports)
    else:
        figures["exposure"] = None
        figures["exposure_reason"] = "no phrases were planted; train a run with --set audit.phrases=8"
    write_atomically(run.path / FILE_NAME, msgspec.json.encode(figures))
    return figures


def _clipped_sum(
    config: RunConfig, data: ClientData, state: ServerState, clip_norm: float
) -> tuple[NDArray[np.float32], float]:
    """(some coordinates of the sum of a cohort's clipped updates, the clip norm); 0 stands for their median norm."""
    maker = UpdateMaker(config, data, state, config.client.max_sentences)
    size = config.rounds.cohort_size
    people = choose_people(data, config.seed, state.round_num, None, config.client.max_sentences, 0)
    updates = list(maker.updates(people.crowd[:size]))
    clip_norm = clip_norm or statistics.median(update.norm for update in updates)
    stride = -(-maker.size.num_weights // _MOST_COORDINATES)
    total = np.zeros(-(-maker.size.num_weights // stride), np.float32)
    for update in updates:
        factor = np.float32(min(1.0, clip_norm / max(update.norm, 1e-30)))
        total += factor * np.concatenate([tensor.ravel() for tensor in update.delta])[::stride]
    return total, clip_norm


def _whole_run(
    config: RunConfig,
    state: ServerState,
    reports: Sequence[Round],
    delta: float,
    note: Callable[[str], None],
) -> tuple[Optional[dict[str, Any]], str]:
    """(the audit of the canary clients that took part in the training, why there is none)."""
    size = ModelSize.of(state.weights)
    canaries = build_canaries(config, size)
    if canaries is None:
        return None, "no canary client took part; train a run with --set audit.canaries=200"
    note(f"looking for {len(canaries.members)} canary clients in all rounds' sums and in the model")
    moved = tuple(first - last for first, last in zip(first_weights(config, size, None), state.model))
    reports = [report for report in reports if report.round_num <= state.round_num]
    found = audit_whole_run(
        canaries.members, canaries.included, reports, canaries.inner_products(moved), config.privacy, delta
    )
    if found is None:
        return None, "too few canary clients took part to tell anything; train more rounds, or raise audit.canaries"
    return asdict(found), ""


def _exposures(config: RunConfig, data: ClientData, weights: Weights, reports: Sequence[Round]) -> dict[str, Any]:
    """Exposure in bits by how often a phrase was typed, apart for people who took part in a round and who never did."""
    took_part = {client for report in reports for client in report.survivors}
    planted = planted_phrases(config, data)
    rng = simulation_rng(config.seed, Purpose.PHRASES, 1 << 20)
    others = draw_phrases(config, data, NUM_REFERENCES, rng)
    losses = phrase_losses(weights, [phrase.words for phrase in planted], config.data.max_words)
    references = phrase_losses(weights, list(others), config.data.max_words).tolist()
    bits = [exposure(loss, references) for loss in losses.tolist()]

    def summary(values: Sequence[float]) -> Optional[dict[str, float]]:
        if not values:
            return None
        return {"phrases": len(values), "mean": statistics.fmean(values), "most": max(values)}

    def of(repeats: Sequence[int], seen: bool) -> Optional[dict[str, float]]:
        chosen = zip(bits, planted)
        return summary([b for b, p in chosen if p.repeats in repeats and (p.client_id in took_part) is seen])

    return {
        "kind": "estimate",
        "most_possible": float(np.log2(NUM_REFERENCES + 1)),
        "by_repeats": {str(repeats): of([repeats], seen=True) for repeats in REPEATS},
        "never_took_part": of(REPEATS, seen=False),
    }


def phrase_losses(weights: Weights, phrases: Sequence[NDArray[np.int32]], max_words: int) -> NDArray[np.float64]:
    """Minus the log-probability, in nats, of each phrase as a whole sentence, float64 [phrases]."""
    import tensorflow as tf

    from models.inference import next_word_probabilities

    constants = tuple(map(tf.constant, weights))
    losses = []
    for start in range(0, len(phrases), _PHRASES_AT_ONCE):
        some = phrases[start : start + _PHRASES_AT_ONCE]
        batches = build_batches(some, batch_size=len(some), time=max_words)
        tokens, targets, mask = (part[0] for part in batches)
        probability, positions = next_word_probabilities(constants, tf.constant(tokens), tf.constant(mask))
        of_target = tf.gather_nd(
            probability, np.stack([np.arange(len(positions)), targets[tuple(positions.numpy().T)]], 1)
        )
        nats = -np.log(np.maximum(of_target.numpy().astype(np.float64), 1e-30))
        losses.append(np.bincount(positions.numpy()[:, 0], nats, minlength=len(some)))
    return np.concatenate(losses)

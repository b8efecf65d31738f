"""The honest but curious server of a run: what it can tell about what its clients typed, view by view."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Optional

import msgspec
import numpy as np

from models.files import write_atomically
from models.vocabulary import NUM_SPECIAL, Vocabulary
from orchestrator.audit.attack_results import FILE_NAME
from orchestrator.audit.sentences import rebuilding_figures
from orchestrator.audit.updates import UpdateMaker, choose_people
from orchestrator.audit.views import VIEWS, Reason, Seen, Views, noise_of
from orchestrator.audit.word_recovery import (
    RULES,
    Recovery,
    best_auc,
    chance_auc_error,
    guess_frequent,
    measure,
    readable_words,
    score_words,
)
from orchestrator.run.saved import Run

NUM_TARGETS = 5
HIDDEN_AUC = 0.55
_NUM_NAMED = 60
_NUM_EXAMPLES = 12
_LEVELS = tuple(float(f"{10 ** (exponent / 4):.3g}") for exponent in range(-16, 5))  # 1e-4 .. 10


def attack_run(
    run: Run,
    client: Optional[str],
    num_sentences: int,
    noise_multiplier: Optional[float],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """The figures of `fedkeys attack`, which are also left in DIR/attack.json.

    The clients train from the newest checkpoint as the run's next round would have them, each on `num_sentences` of its
    sentences. A view is scored on the words typed by those whom it covers: in a sum, by anybody in it. `attribution`
    scores the sums on the words of the target alone. Means over the targets, `per_client` one by one.

    Args:
      run: with a checkpoint, whose text is still there.
      client: the first target; None draws it.
      num_sentences: of each client; at most what the run lets a client train on.
      noise_multiplier: of the noise in the view `noised`; None takes the run's.
      note: is told what begins.

    Raises:
      RunFolderError: there is no checkpoint, the text is not the run's, or nobody can be attacked.
    """
    config, state, vocabulary = run.config, run.newest, run.vocabulary
    note("reading the text")
    data = run.text.data
    num_sentences = min(num_sentences, config.client.max_sentences)
    people = choose_people(data, config.seed, state.round_num, client, num_sentences, NUM_TARGETS)
    note("loading TensorFlow")
    maker = UpdateMaker(config, data, state, num_sentences)
    noise = noise_of(config, state, noise_multiplier)
    views = Views(maker, config, people, noise, note)
    seen = views.of_targets(note)
    note("telling words from what the server has")
    figures = {
        "round_num": state.round_num,
        "sentences": num_sentences,
        "clients": [target.client_id for target in views.targets],
        "aggregator": config.aggregation.aggregator,
        "words": maker.size.vocabulary_size - NUM_SPECIAL,
        **_scores(seen),
        **_only_the_target(seen, vocabulary),
        "named": {view: _named(seen[0][view], views.targets[0].typed, vocabulary) for view in VIEWS},
        "noise": _noise_figures(views),
    }
    note("putting the words of the raw updates in order")
    one_sentence = tuple(maker.updates(people.targets, num_sentences=1))
    figures["rebuilt"] = {
        str(count): rebuilding_figures(state.weights, updates, config.data.max_words, vocabulary)
        for count, updates in {1: one_sentence, num_sentences: views.targets}.items()
        if updates
    }
    figures["checks"] = _checks(figures)
    write_atomically(run.path / FILE_NAME, msgspec.json.encode(figures))
    return figures


def _scores(seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`views`, `attribution`, their errors and baselines."""
    figures: dict[str, Any] = {
        name: {} for name in ("views", "attribution", "per_client", "baselines", "typed_words", "reasons")
    }
    for view in VIEWS:
        parts = [of_target[view] for of_target in seen]
        reason = next((part for part in parts if isinstance(part, Reason)), None)
        if reason is not None:
            figures["views"][view] = None
            figures["reasons"][view] = reason
            continue
        results = [_measure_all(part, part.typed) for part in parts]
        figures["views"][view] = _means(results)
        figures["per_client"][view] = [{rule: asdict(r) for rule, r in result.items()} for result in results]
        figures["baselines"][view] = statistics.fmean(guess_frequent(part.typed).f1 for part in parts)
        figures["typed_words"][view] = statistics.fmean(int(part.typed.sum()) for part in parts)
        if view not in ("raw", "masked", "encrypted"):
            raws = [of_target["raw"].typed for of_target in seen]
            figures["attribution"][view] = _means([_measure_all(part, own) for part, own in zip(parts, raws)])
    figures["baseline_f1"] = figures["baselines"]["raw"]
    return figures


def _measure_all(seen: Seen, typed: np.ndarray) -> dict[str, Recovery]:
    scores = score_words(seen.embedding, seen.output_bias)
    return {rule: measure(*scores[rule], typed) for rule in RULES}


def _means(results: Sequence[Mapping[str, Recovery]]) -> dict[str, dict[str, Optional[float]]]:
    """{rule: means over the targets, and f1_sd and auc_sd, how far these lie apart}."""
    figures: dict[str, dict[str, Optional[float]]] = {}
    for rule in RULES:
        rows = [asdict(result[rule]) for result in results]
        figures[rule] = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
        for name in ("f1", "auc"):
            figures[rule][f"{name}_sd"] = statistics.stdev(row[name] for row in rows) if len(rows) > 1 else None
    return figures


def _only_the_target(seen: Sequence[Mapping[str, Any]], vocabulary: Vocabulary) -> dict[str, Any]:
    """The words that nobody else in a sum typed, and how many of them can still be read; summed over the targets.

    `target_only_words` and `target_only_readable` are those of the largest sum.
    """
    of_view, largest = {}, None
    for view in VIEWS:
        parts = [of_target[view] for of_target in seen]
        if not view.startswith("sum_") or any(isinstance(part, Reason) for part in parts):
            continue
        largest = view
        readable = [readable_words(part.embedding, part.output_bias, part.only_target) for part in parts]
        of_view[view] = {
            "words": sum(int(part.only_target.sum()) for part in parts),
            "readable": sum(map(len, readable)),
            "examples": [vocabulary.words[i] for i in readable[0][:_NUM_EXAMPLES]],  # of the first target
        }
    return {
        "target_only": of_view,
        "target_only_words": of_view[largest]["words"] if largest else None,
        "target_only_readable": of_view[largest]["readable"] if largest else None,
    }


def _named(seen: Any, own: np.ndarray, vocabulary: Vocabulary) -> Optional[list[dict[str, str]]]:
    """The words that bias_sign is surest of, and who typed each: the client, another in the sum, or nobody."""
    if isinstance(seen, Reason):
        return None
    score, _ = score_words(seen.embedding, seen.output_bias)["bias_sign"]
    best = np.argsort(-score[NUM_SPECIAL:], kind="stable")[:_NUM_NAMED] + NUM_SPECIAL
    typed_by = np.where(own, "client", np.where(seen.typed, "other", "nobody"))
    return [{"word": vocabulary.words[i], "typed_by": str(typed_by[i])} for i in best]


def _noise_figures(views: Views) -> dict[str, Any]:
    """The noise of `noised`, and the AUC of the best rule at other levels.

    `hidden_from`: the lowest multiplier tried from which on the mean AUC stays within HIDDEN_AUC.
    """
    curve = []
    for level in _LEVELS:
        parts = [views.noised(place, level) for place in range(len(views.targets))]
        aucs = [best_auc(p.embedding, p.output_bias, p.typed) for p in parts if isinstance(p, Seen)]
        if aucs:
            curve.append({"multiplier": level, "auc": statistics.fmean(aucs)})
    hidden = None
    for point in reversed(curve):
        if point["auc"] > HIDDEN_AUC:
            break
        hidden = point["multiplier"]
    return {
        "source": views.noise.source,
        "multiplier": views.noise.multiplier,
        "clip_norm": views.noise.clip_norm,
        "clients": views.num_noised,
        "curve": curve,
        "hidden_from": hidden,
    }


def _checks(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Does the attack work where it must, and fail where it must? A view that can't be had is not checked."""
    views, checks = figures["views"], []
    best = max(rule["f1"] for rule in views["raw"].values())
    checks.append({"name": "raw update: the best rule's F1 is at least 0.9", "ok": best >= 0.9, "value": best})
    for view in ("masked", "encrypted"):
        if views[view] is None:
            continue
        typed = figures["typed_words"][view]
        error = chance_auc_error(round(typed), round(figures["words"] - typed)) / math.sqrt(len(figures["clients"]))
        for rule, result in views[view].items():
            distance = (result["auc"] - 0.5) / error
            checks.append(
                {
                    "name": f"{view}: {rule}'s AUC is within 3 standard errors of 0.5",
                    "ok": abs(distance) <= 3,
                    "value": result["auc"],
                    "standard_error": error,
                }
            )
    if views["noised"] is not None:
        worst = max(abs(rule["auc"] - 0.5) for rule in views["noised"].values())
        name = f"noised: every rule's AUC is within {HIDDEN_AUC}"
        checks.append({"name": name, "ok": 0.5 + worst <= HIDDEN_AUC, "value": 0.5 + worst})
    return checks

"""Plays the honest but curious server of a run: measures what it can tell about its clients' words, view by view."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from models.disclosure import MIN_GROUP
from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.audit.attack_results import (
    FILE_NAME,
    HIDDEN_AUC,
    HIDDEN_VIEWS,
    AttackResult,
    Check,
    Named,
    NoisePoint,
    NoiseResult,
    OnlyTarget,
    RebuiltMeans,
    Recovery,
    Score,
)
from orchestrator.audit.sentences import measure_rebuilding
from orchestrator.audit.updates import AttackedUpdate, UpdateMaker, choose_people
from orchestrator.audit.views import Reason, Seen, View, Views, noise_of
from orchestrator.audit.word_recovery import (
    RULES,
    best_auc,
    chance_auc_error,
    guess_frequent,
    measure,
    readable_words,
    require_readable,
    score_words,
)
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run
from orchestrator.settings.sections import DataConfig

NUM_TARGETS = MIN_GROUP
_NUM_NAMED = 60
_NUM_EXAMPLES = 12
_LEVELS = tuple(float(f"{10 ** (exponent / 4):.3g}") for exponent in range(-16, 5))  # 1e-4 .. 10
_ALONE = ("raw", *HIDDEN_VIEWS)  # views of one client's upload


def attack_run(
    run: Run,
    client: Optional[str],
    num_sentences: int,
    noise_multiplier: Optional[float],
    note: Callable[[str], None],
) -> AttackResult:
    """Returns what `fedkeys attack` finds, and writes it to DIR/attack.json.

    The clients train from the newest checkpoint as the run's next round would have them, each on `num_sentences` of its
    sentences. A view is scored on the words of everybody whom it covers: in a sum, on the words of all its clients.
    `attribution` scores the sums on the words of the target alone.

    Args:
      run: has a checkpoint, and its text is still there.
      client: the first target; None draws it.
      num_sentences: how many each client trains on; at most what the run lets a client train on.
      noise_multiplier: the noise of the view `noised`; None takes the run's.
      note: is told what begins.

    Raises:
      RunFolderError: there is no checkpoint, the text is not the run's, or nobody can be attacked.
      RoleError: the rules can't read the update of this kind of network.
    """
    config, state, vocabulary = run.config, run.newest, run.vocabulary
    require_readable(config.model)
    note("reading the text")
    data = run.text.data
    num_sentences = min(num_sentences, config.client.max_sentences)
    people = choose_people(data, config.seed, state.round_num, client, num_sentences, NUM_TARGETS)
    note("loading TensorFlow")
    maker = UpdateMaker(config, data, state, num_sentences)
    noise = noise_of(config.privacy, config.rounds.cohort_size, state.clip_norm, noise_multiplier)
    views = Views(maker, config, people, noise, note)
    seen = views.of_targets(note)
    note("telling words from what the server has")
    scores, only_target, noise_result = score_views(seen), only_the_target(seen, vocabulary), _measure_noise(views)
    note("putting the words of the raw updates in order")
    raw = {1: tuple(maker.updates(people.targets, num_sentences=1)), num_sentences: views.targets}
    rebuilt = _rebuild(raw, maker.size, state.weights, config.data, vocabulary)
    largest = list(only_target.values())[-1] if only_target else None
    result = AttackResult(
        round_num=state.round_num,
        sentences=num_sentences,
        clients=tuple(target.client_id for target in views.targets),
        aggregator=config.aggregation.aggregator,
        words=maker.size.vocabulary_size - NUM_SPECIAL,
        views=scores.views,
        attribution=scores.attribution,
        per_client=scores.per_client,
        baselines=scores.baselines,
        typed_words=scores.typed_words,
        reasons=scores.reasons,
        baseline_f1=scores.baselines["raw"],
        target_only=only_target,
        target_only_words=largest.words if largest else None,
        target_only_readable=largest.readable if largest else None,
        named={view: _named(seen[0][view], views.targets[0].typed, vocabulary) for view in seen[0]},
        noise=noise_result,
        rebuilt=rebuilt,
        checks=tuple(check_scores(scores, maker.size.vocabulary_size - NUM_SPECIAL, len(views.targets))),
    )
    write_figures(run.path / FILE_NAME, result, private=True)
    return result


@dataclass(frozen=True)
class Scores:
    """The fields of AttackResult that say how well the rules do in each view."""

    views: dict[str, Optional[Mapping[str, Score]]] = field(default_factory=dict)
    attribution: dict[str, Mapping[str, Score]] = field(default_factory=dict)
    per_client: dict[str, tuple[Mapping[str, Recovery], ...]] = field(default_factory=dict)
    baselines: dict[str, float] = field(default_factory=dict)
    typed_words: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, Reason] = field(default_factory=dict)


def score_views(seen: Sequence[Mapping[str, View]]) -> Scores:
    """Scores every rule in every view; seen: the views of each target."""
    scores = Scores()
    for view in seen[0]:
        parts = _of_all_targets(seen, view)
        if isinstance(parts, Reason):
            scores.views[view] = None
            scores.reasons[view] = parts
            continue
        results = tuple(_measure_all(part, part.typed) for part in parts)
        scores.views[view] = _means(results)
        scores.per_client[view] = results
        scores.baselines[view] = statistics.fmean(guess_frequent(part.typed).f1 for part in parts)
        scores.typed_words[view] = statistics.fmean(int(part.typed.sum()) for part in parts)
        if view not in _ALONE:
            raws = _of_all_targets(seen, "raw")
            assert not isinstance(raws, Reason)  # an unprotected update can always be had
            scores.attribution[view] = _means([_measure_all(part, raw.typed) for part, raw in zip(parts, raws)])
    return scores


def _of_all_targets(seen: Sequence[Mapping[str, View]], view: str) -> Union[list[Seen], Reason]:
    """Returns what the server has of each target in a view, or why the view can't be had."""
    parts: list[Seen] = []
    for of_target in seen:
        part = of_target[view]
        if isinstance(part, Reason):
            return part
        parts.append(part)
    return parts


def _measure_all(seen: Seen, typed: NDArray[np.bool_]) -> dict[str, Recovery]:
    scores = score_words(seen.embedding, seen.output_bias)
    return {rule: measure(*scores[rule], typed) for rule in RULES}


def _means(results: Sequence[Mapping[str, Recovery]]) -> dict[str, Score]:
    """Returns {rule: the means over the targets}."""
    return {rule: mean_score([result[rule] for result in results]) for rule in RULES}


def mean_score(of_clients: Sequence[Recovery]) -> Score:
    """Returns the means over the clients, and how far their F1 and AUC lie apart.

    >>> mean_score([Recovery(1.0, 0.5, 0.5, 0.75, 0.75), Recovery(0.5, 0.25, 0.5, 0.75, 0.25)])  # doctest: +ELLIPSIS
    Score(precision=0.75, recall=0.375, f1=0.5, best_f1=0.75, auc=0.5, f1_sd=0.0, auc_sd=0.353...)
    """
    f1s, aucs = [own.f1 for own in of_clients], [own.auc for own in of_clients]
    several = len(of_clients) > 1
    return Score(
        precision=statistics.fmean(own.precision for own in of_clients),
        recall=statistics.fmean(own.recall for own in of_clients),
        f1=statistics.fmean(f1s),
        best_f1=statistics.fmean(own.best_f1 for own in of_clients),
        auc=statistics.fmean(aucs),
        f1_sd=statistics.stdev(f1s) if several else None,
        auc_sd=statistics.stdev(aucs) if several else None,
    )


def only_the_target(seen: Sequence[Mapping[str, View]], vocabulary: Vocabulary) -> dict[str, OnlyTarget]:
    """Returns {sum: the words that only a target typed, and how many of them can still be read}, small sums first."""
    of_view = {}
    for view in seen[0]:
        parts = _of_all_targets(seen, view)
        if not view.startswith("sum_") or isinstance(parts, Reason):
            continue
        readable = [readable_words(part.embedding, part.output_bias, part.only_target) for part in parts]
        of_view[view] = OnlyTarget(
            words=sum(int(part.only_target.sum()) for part in parts),
            readable=sum(map(len, readable)),
            examples=tuple(vocabulary.words[i] for i in readable[0][:_NUM_EXAMPLES]),
        )
    return of_view


def _named(seen: View, own: NDArray[np.bool_], vocabulary: Vocabulary) -> Optional[tuple[Named, ...]]:
    """Returns the words that bias_sign is surest of, and who typed each: the client, another in the sum, or nobody."""
    if isinstance(seen, Reason):
        return None
    score, _ = score_words(seen.embedding, seen.output_bias)["bias_sign"]
    best = np.argsort(-score[NUM_SPECIAL:], kind="stable")[:_NUM_NAMED] + NUM_SPECIAL
    typed_by = np.where(own, "client", np.where(seen.typed, "other", "nobody"))
    return tuple(Named(vocabulary.words[i], str(typed_by[i])) for i in best)


def _measure_noise(views: Views) -> NoiseResult:
    """Returns the noise of the view `noised`, and the AUC of the best rule at other levels."""
    curve = []
    for level in _LEVELS:
        parts = [views.noised(place, level) for place in range(len(views.targets))]
        aucs = [best_auc(p.embedding, p.output_bias, p.typed) for p in parts if isinstance(p, Seen)]
        if aucs:
            curve.append(NoisePoint(level, statistics.fmean(aucs)))
    return NoiseResult(
        source=views.noise.source,
        multiplier=views.noise.multiplier,
        clip_norm=views.noise.clip_norm,
        clients=views.num_noised,
        curve=tuple(curve),
        hidden_from=hidden_from(curve),
    )


def _rebuild(
    updates: Mapping[int, Sequence[AttackedUpdate]],
    size: ModelSize,
    weights: Weights,
    data: DataConfig,
    vocabulary: Vocabulary,
) -> dict[str, RebuiltMeans]:
    """Measures how much of the sentences is rebuilt from raw updates, by the number of sentences in each."""
    return {
        str(count): measure_rebuilding(size, weights, own, data.max_words, vocabulary)
        for count, own in updates.items()
        if own
    }


def hidden_from(curve: Sequence[NoisePoint]) -> Optional[float]:
    """Returns the lowest multiplier from which on the AUC stays within HIDDEN_AUC, None if there is none.

    >>> hidden_from([NoisePoint(0.1, 0.54), NoisePoint(1.0, 0.8), NoisePoint(3.0, 0.53), NoisePoint(10.0, 0.5)])
    3.0
    """
    hidden = None
    for point in reversed(curve):
        if point.auc > HIDDEN_AUC:
            break
        hidden = point.multiplier
    return hidden


def check_scores(scores: Scores, num_words: int, num_targets: int) -> list[Check]:
    """Checks that the attack works where it must and fails where it must, in all views that can be had."""
    raw, checks = scores.views["raw"], []
    assert raw is not None  # an unprotected update can always be had
    best = max(score.f1 for score in raw.values())
    checks.append(Check("raw update: the best rule's F1 is at least 0.9", best >= 0.9, best))
    for view in HIDDEN_VIEWS:
        typed = scores.typed_words.get(view, 0.0)
        for rule, score in (scores.views.get(view) or {}).items():
            error = chance_auc_error(round(typed), round(num_words - typed)) / math.sqrt(num_targets)
            name = f"{view}: {rule}'s AUC is within 3 standard errors of 0.5"
            checks.append(Check(name, abs(score.auc - 0.5) <= 3 * error, score.auc, error))
    noised = scores.views["noised"]
    if noised is not None:
        worst = 0.5 + max(abs(score.auc - 0.5) for score in noised.values())
        checks.append(Check(f"noised: every rule's AUC is within {HIDDEN_AUC}", worst <= HIDDEN_AUC, worst))
    return checks

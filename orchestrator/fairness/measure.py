"""Measures how a run's model serves groups of people, by federated evaluation and secure sums."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from models.client_data import ClientData, Sentences
from models.corpus import ClientId
from models.disclosure import MIN_GROUP
from models.metrics import ClientSums
from models.weights import ModelSize, Weights
from orchestrator.errors import FairnessError
from orchestrator.fairness import attributes, figures
from orchestrator.fairness.attributes import Feature, Labels
from orchestrator.fairness.by_group import PartTaken, measure_participation, measure_recall
from orchestrator.fairness.group_sums import Secure, few_drop_out
from orchestrator.fairness.results import FairnessResult, write_fairness
from orchestrator.fleet.results import DEVICES_FILE
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.sums import secagg_policy
from orchestrator.run.data import Text
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from orchestrator.secagg.graph import graph_parameters
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig
from orchestrator.units import count_text, duration_text
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime, borrow

_NO_DEVICE = "no device is known: train with a fleet, or give --groups FILE"
_NO_TIME_ZONE = (
    "the text says when (UTC) somebody typed, not where, and the place does not follow from the time: "
    "train with a fleet, or give --groups FILE"
)


@dataclass(frozen=True)
class Options:
    """Whom to measure, and by which groups."""

    people: str = "test"  # or dev, train
    groups_path: Optional[Path] = None
    min_group_size: int = MIN_GROUP
    participation: bool = True


def measure_fairness(
    run: Run,
    options: Options,
    note: Callable[[str], None],
    observer: Optional[Callable] = None,
    runtime: Optional[Runtime] = None,
) -> FairnessResult:
    """Returns what `fedkeys fairness` finds (docs/fairness.md), and writes it to DIR/fairness.json.

    Args:
      run: the run.
      options: whom to measure.
      note: is told what begins.
      observer: of secagg, see orchestrator.rounds.build.build_aggregator.
      runtime: what to evaluate in; None starts the run's workers for it.

    Raises:
      RunFolderError: there is no checkpoint, or the text is not the one the run was trained on.
      FairnessError: the groups can't be read, or name strangers.
      BelowThreshold: there are fewer people than the smallest group that may show.
    """
    config, state = run.config, run.newest
    note("reading the text")
    corpus, data = run.text
    scored: Mapping[ClientId, Sentences] = getattr(data, options.people)
    given = _given_labels(run.path, options.groups_path, corpus.clients)
    of_scored = [labels for labels in given if labels.says_something(scored)]
    note(f"federated evaluation on {count_text(len(scored), f'{options.people} person')}")
    with borrow(runtime, config.runtime.workers) as runtime:
        sums = _evaluate(runtime, config, state.model, data.vocabulary.size, scored)
    aggregation = few_drop_out(config.aggregation)
    secure = Secure(build_aggregator(aggregation, observer), options.min_group_size)
    note(f"summing by group, by {aggregation.aggregator}")
    started = time.perf_counter()
    measured = measure_recall(tuple(scored), sums, _features(run.text, scored), of_scored, secure, config.seed)
    participation = {}
    if options.participation:
        note(_how_long(aggregation, time.perf_counter() - started, len(scored), len(data.split.train)))
        of_train = [labels for labels in given if labels.says_something(data.split.train)]
        participation = measure_participation(_parts_taken(run.rounds, data), [*of_train, *measured.thirds], secure)
    everybody = measured.everybody
    result = FairnessResult(
        round_num=state.round_num,
        weights_sha256=weights_digest(state.model),
        people=options.people,
        aggregator=aggregation.aggregator,
        min_group_size=options.min_group_size,
        min_positions=figures.MIN_POSITIONS,
        clients=everybody.clients,
        positions=everybody.positions,
        top1=everybody.top1,
        top3=everybody.top3,
        oov_rate=everybody.oov_rate,
        per_client=everybody.per_client,
        recall_histogram=measured.histogram,
        attributes=measured.by_attribute,
        participation=participation,
        not_measured=_not_measured(given, of_scored),
    )
    write_fairness(run.path, result)
    return result


def _how_long(aggregation: AggregationConfig, spent_s: float, num_scored: int, num_train: int) -> str:
    """Returns what to say before the sums over training people, by how long those over the scored people took."""
    expected_s = spent_s * _work(aggregation, num_train) / _work(aggregation, num_scored)
    return (
        f"summing who took part over {num_train:,} training people, by {aggregation.aggregator}: about "
        f"{duration_text(expected_s)}"
    )


def _work(aggregation: AggregationConfig, num_people: int) -> int:
    """Returns how much work a sum of short vectors is: under secagg by pairs of neighbours, else by people."""
    if not aggregation.traits.needs_cohort_first:
        return num_people
    return num_people * graph_parameters(num_people, secagg_policy(aggregation)).degree


def _evaluate(
    runtime: Runtime, config: RunConfig, model: Weights, vocabulary_size: int, scored: Mapping[ClientId, Sentences]
) -> ClientSums:
    """Scores the model on each person's text by federated evaluation."""
    evaluation = build_evaluation(ModelSize.of(model, config.model.kind), config.data.max_words, vocabulary_size)
    batches = evaluation_batches(scored, config.data.max_words, config.data.max_sentences_eval)
    return federated_sums(runtime, evaluation, model, batches, config.runtime.clients_per_call)


def _features(text: Text, scored: Collection[ClientId]) -> list[Feature]:
    """What the people who are scored or train work out from their own text."""
    everybody = tuple(scored) + tuple(p for p in text.data.split.train if p not in scored)
    texts = {person: text.corpus.clients[person] for person in everybody}
    return [attributes.activity(texts), attributes.vocabulary_distance(texts, text.data.vocabulary)]


def _given_labels(folder: Path, groups_path: Optional[Path], people: Collection[ClientId]) -> list[Labels]:
    """The attributes from the fleet and from a file; whoever is in neither is in the group "not given"."""
    labels = []
    if (folder / DEVICES_FILE).exists():
        labels += attributes.read_devices(folder / DEVICES_FILE, people)
    if groups_path is not None:
        labels += attributes.read_groups(groups_path, people, people)
    for name, count in Counter(own.name for own in labels).items():
        if count > 1:
            raise FairnessError(f"{groups_path}: {name!r} is an attribute of the fleet, too: rename the column")
    return labels


def _not_measured(given: Sequence[Labels], scored: Sequence[Labels]) -> dict[str, str]:
    """{attribute whose recall is not measured: why}."""
    reasons = {"device tier": _NO_DEVICE, "network": _NO_DEVICE, "time zone": _NO_TIME_ZONE}
    reasons.update((labels.name, "given for none of the people scored: try --people train") for labels in given)
    return {name: why for name, why in reasons.items() if name not in {labels.name for labels in scored}}


def _parts_taken(rounds: Sequence[Round], data: ClientData) -> dict[ClientId, PartTaken]:
    """What each training person knows of their own part in the run."""
    selected = Counter(person for report in rounds for person in report.selected)
    summed = Counter(person for report in rounds for person in report.survivors)
    return {person: PartTaken(person in data.train, selected[person], summed[person]) for person in data.split.train}

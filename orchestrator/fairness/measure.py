"""`fedkeys fairness`: how a run's model serves groups of people, by federated evaluation and secure sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import msgspec

from models.client_data import ClientData
from models.corpus import ClientId
from models.files import write_atomically
from models.weights import ModelSize
from orchestrator.errors import FairnessError
from orchestrator.fairness import attributes, figures
from orchestrator.fairness.attributes import Labels
from orchestrator.fairness.by_group import PartTaken, participation_figures, recall_figures
from orchestrator.fairness.group_sums import Secure
from orchestrator.fairness.results import FILE_NAME
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.rounds.round import weights_digest
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime, borrow

DEVICES_FILE = "fleet_devices.json"
_NO_DEVICE = "no device is known: train with a fleet, or give --groups FILE"
_NO_TIME_ZONE = (
    "the text says when (UTC) somebody typed, not where, and the one does not follow from the other: "
    "train with a fleet, or give --groups FILE"
)


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    people: str = "test"  # or dev, train
    groups_path: Optional[Path] = None
    min_group_size: int = 10
    participation: bool = True


def measure_fairness(
    run: Run,
    options: Options,
    note: Callable[[str], None],
    observer: Optional[Callable] = None,
    runtime: Optional[Runtime] = None,
) -> dict[str, Any]:
    """The figures of `fedkeys fairness` (docs/fairness.md); also written to DIR/fairness.json.

    Args:
      run: the run.
      options: whom to measure.
      note: is told what begins.
      observer: of secagg, see orchestrator.rounds.build.build_aggregator.
      runtime: to evaluate in; None starts the run's workers for it.

    Raises:
      RunFolderError: no checkpoint, or the text is not the one the run was trained on.
      FairnessError: the groups can't be read, or name strangers.
      BelowThreshold: fewer people than the smallest group that may show.
    """
    config, state = run.config, run.newest
    note("reading the text")
    corpus, data = run.text
    scored: Mapping[ClientId, Any] = getattr(data, options.people)
    everybody = tuple(scored) + tuple(p for p in data.split.train if p not in scored)
    given = _given_labels(run.path, options.groups_path, corpus.clients)
    of_scored = [labels for labels in given if labels.says_something(scored)]
    note(f"federated evaluation on {len(scored)} {options.people} people")
    with borrow(runtime, config.runtime.workers) as runtime:
        evaluation = build_evaluation(ModelSize.of(state.model), config.data.max_words, data.vocabulary.size)
        batches = evaluation_batches(scored, config.data.max_words, config.data.max_sentences_eval)
        sums = federated_sums(runtime, evaluation, state.model, batches, config.runtime.clients_per_call)
    secure = Secure(build_aggregator(config.aggregation, observer), options.min_group_size)
    note(f"summing by group, by {config.aggregation.aggregator}")
    texts = {person: corpus.clients[person] for person in everybody}
    features = [attributes.activity(texts), attributes.vocabulary_distance(texts, data.vocabulary)]
    own, cut = recall_figures(tuple(scored), sums, features, of_scored, secure, config.seed)
    participation = {}
    if options.participation:
        note(
            f"summing who took part over {len(data.split.train):,} training people, by {config.aggregation.aggregator}"
        )
        of_train = [labels for labels in given if labels.says_something(data.split.train)]
        participation = participation_figures(_parts_taken(run.rounds, data), [*of_train, *cut], secure)
    result = {
        "round_num": state.round_num,
        "weights_sha256": weights_digest(state.model),
        "people": options.people,
        "aggregator": config.aggregation.aggregator,
        "min_group_size": options.min_group_size,
        "min_positions": figures.MIN_POSITIONS,
        **own,
        "participation": participation,
        "not_measured": _not_measured(given, of_scored),
    }
    write_atomically(run.path / FILE_NAME, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return result


def _given_labels(folder: Path, groups_path: Optional[Path], people: Collection[ClientId]) -> list[Labels]:
    """The attributes from the fleet and from a file; who is in neither is in the group "not given"."""
    labels = []
    if (folder / DEVICES_FILE).exists():
        labels += attributes.read_devices(folder / DEVICES_FILE, people)
    if groups_path is not None:
        labels += attributes.read_groups(groups_path, people, people)
    for name, count in Counter(own.name for own in labels).items():
        if count > 1:
            raise FairnessError(f"{groups_path}: {name!r} is given by the fleet, too: rename the column")
    return labels


def _not_measured(given: Sequence[Labels], scored: Sequence[Labels]) -> dict[str, str]:
    """{attribute whose recall can't be told: why}."""
    reasons = {"device tier": _NO_DEVICE, "network": _NO_DEVICE, "time zone": _NO_TIME_ZONE}
    reasons.update((labels.name, "given for none of the people scored: try --people train") for labels in given)
    return {name: why for name, why in reasons.items() if name not in {labels.name for labels in scored}}


def _parts_taken(rounds: Sequence[Round], data: ClientData) -> dict[ClientId, PartTaken]:
    """What each training person knows of their own part in the run."""
    selected = Counter(person for report in rounds for person in report.selected)
    summed = Counter(person for report in rounds for person in report.survivors)
    return {person: PartTaken(person in data.train, selected[person], summed[person]) for person in data.split.train}

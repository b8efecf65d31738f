"""DIR/MODEL_CARD.md: what a model is for, what it was made from, what it can and can't do.

Source: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the front matter as Hugging Face reads it,
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import jinja2
import msgspec
import yaml

from models.chitchat import BUILT_IN
from models.files import write_atomically
from models.weights import ModelSize
from orchestrator.audit.attack_results import AttackResult, read_attack
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.privacy import RunPrivacy, run_privacy
from orchestrator.evaluation.results import EVALUATION_FILE, LABELS, Evaluation, Score, read_evaluation
from orchestrator.fairness.results import FairnessResult, read_fairness, verdicts
from orchestrator.release.provenance import CARD_FILE, write_statement
from orchestrator.rounds.round import weights_digest
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.saved import Run
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.kinds import MECHANISM_TRAITS

_BUILT_IN = (
    "Typed chat of students of one American university with strangers, for a competition in 2018: not a sample of "
    "anybody else, not what people type to friends, full of its own topics, in American English, and with names of "
    "people and places in it."
)
_GIVEN = (
    "The operator's own text: fedkeys knows nothing of who wrote it, in which language, or whom it leaves out. Say so "
    "here before the model is used."
)


class CardFigures(msgspec.Struct, frozen=True):
    """What `fedkeys card` wrote: the paths of the card and of the statement about it."""

    card: str
    statement: str
    signed: bool
    weights_sha256: str


@dataclass(frozen=True)
class _Found:
    """What the commands found of the weights that a card is about; None if a command was not run."""

    evaluation: Evaluation
    fairness: Optional[FairnessResult]
    fairness_is_stale: bool  # there is one, of other weights
    attack: Optional[AttackResult]
    privacy: RunPrivacy

    @property
    def is_private(self) -> bool:
        """True if the card states an epsilon; it then leaves out what comes from training text without noise."""
        return MECHANISM_TRAITS[self.privacy.mechanism].adds_noise

    @property
    def published_scores(self) -> Mapping[str, Score]:
        """The scores that the card shows."""
        scores = self.evaluation.scores
        return {"model": scores["model"]} if self.is_private else scores

    @property
    def fairness_why(self) -> str:
        """Which fairness was not measured."""
        if self.fairness_is_stale:
            return " for these weights"
        return " on other people than those in training" if self.published_fairness is not self.fairness else ""

    @property
    def published_fairness(self) -> Optional[FairnessResult]:
        """The figures by group that the card shows."""
        is_of_training = self.fairness is not None and self.fairness.people == "train"
        return None if self.is_private and is_of_training else self.fairness


def write_card(run: Run, key: Optional[Path]) -> CardFigures:
    """Writes DIR/MODEL_CARD.md and the statement about it.

    Args:
      run: evaluated at its newest checkpoint.
      key: to sign the statement with; None leaves it unsigned.

    Raises:
      RunFolderError: the run has no evaluation, or one of another round; a file is damaged.
      EdgeError: the key can't be used.
    """
    digest = weights_digest(run.newest.model)
    path = run.path / CARD_FILE
    write_atomically(path, _render(run, digest, _find(run, digest)).encode())
    statement = write_statement(run, digest, run.newest.round_num, key)
    return CardFigures(str(path), str(statement), key is not None, digest)


def _find(run: Run, digest: str) -> _Found:
    evaluation, round_num = read_evaluation(run.path), run.newest.round_num
    if evaluation is None:
        raise RunFolderError(
            f"{run.path} has no evaluation, and a card without results says nothing: run `fedkeys evaluate --run "
            f"{run.path}` first"
        )
    if evaluation.round_num != round_num:
        raise RunFolderError(
            f"{run.path / EVALUATION_FILE} is of round {evaluation.round_num}, the newest checkpoint of "
            f"round {round_num}: run `fedkeys evaluate --run {run.path}` again"
        )
    fairness = read_fairness(run.path)
    is_stale = fairness is not None and fairness.weights_sha256 != digest
    return _Found(evaluation, None if is_stale else fairness, is_stale, read_attack(run.path), run_privacy(run))


def _render(run: Run, digest: str, found: _Found) -> str:
    """The card: the template, filled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: "-" if share is None else f"{100 * share:.1f} %"
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    state, fairness = run.newest, found.published_fairness
    lines = [line for line in run.rounds if line.round_num <= state.round_num]
    return environment.get_template("model_card.md.j2").render(
        front_matter=yaml.safe_dump(_front_matter(run, found), sort_keys=False, allow_unicode=True),
        name=_name(run),
        num_weights=f"{run.identity.num_weights:,}",
        round_num=state.round_num,
        weights_sha256=digest,
        data_text=_BUILT_IN if _is_built_in(run) else _GIVEN,
        identity=run.identity,
        config=run.config,
        took_part=len({name for line in lines for name in line.survivors} - set(canary_names(run.config))),
        hidden=what_is_hidden(run.config.audit),
        completed=sum(line.outcome == "completed" for line in lines),
        abandoned=sum(line.outcome == "abandoned" for line in lines),
        evaluation=found.evaluation,
        scores=[(LABELS[name], score) for name, score in found.published_scores.items()],
        interval=_interval(found.evaluation.model.top1_interval),
        fairness=fairness,
        fairness_why=found.fairness_why,
        verdicts=verdicts(fairness) if fairness else [],
        privacy=found.privacy,
        is_private=found.is_private,
        attack=found.attack,
        attack_rows=_attack_rows(found.attack),
        vocabulary_size=f"{ModelSize.of(state.model).vocabulary_size:,}",
        record=len(run.record) if run.has_record else 0,
    )


def _name(run: Run) -> str:
    return f"fedkeys {run.identity.corpus_name}"


def _is_built_in(run: Run) -> bool:
    return run.config.data.source == BUILT_IN


def _front_matter(run: Run, found: _Found) -> dict[str, object]:
    """What a hub reads: what the model does, and the results as its leaderboards take them."""
    model, text = found.evaluation.model, run.identity.corpus_name
    metrics = [
        {"type": "accuracy", "name": name, "value": round(value, 6)}
        for name, value in (
            ("top-1 recall of the next word", model.top1),
            ("top-3 recall of the next word", model.top3),
        )
    ]
    return {
        **({"language": ["en"]} if _is_built_in(run) else {}),
        "library_name": "fedkeys",
        "pipeline_tag": "text-generation",
        "tags": ["federated-learning", "next-word-prediction", *(["differential-privacy"] if found.is_private else [])],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": _name(run),
                "results": [
                    {
                        "task": {"type": "text-generation", "name": "next word"},
                        "dataset": {"type": text, "name": f"{text}, test people"},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _interval(interval: Optional[tuple[float, float]]) -> str:
    return "none with one person" if interval is None else f"{100 * interval[0]:.1f} % to {100 * interval[1]:.1f} %"


def _attack_rows(attack: Optional[AttackResult]) -> list[tuple[str, str]]:
    """(view, the best rule's AUC); no word of anybody's is taken over from the attack."""
    rows = []
    for view, rules in (attack.views if attack else {}).items():
        rows.append((view, "not measured" if rules is None else f"{max(own.auc for own in rules.values()):.3f}"))
    return rows

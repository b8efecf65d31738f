"""DIR/MODEL_CARD.md: what a model is for, what it was made from, what it can and can't do.

Source: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the front matter as Hugging Face reads it,
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import jinja2
import msgspec
import yaml

from models.disclosure import MIN_GROUP
from models.files import write_atomically
from models.forgotten import forgotten_places
from models.weights import ModelSize
from orchestrator.audit import attack_results
from orchestrator.audit.attack_results import AttackResult, read_attack
from orchestrator.audit.leakage_results import Exposure, read_audit
from orchestrator.audit.word_recovery import RULES
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.privacy import RunPrivacy, run_privacy
from orchestrator.evaluation.results import EVALUATION_FILE, Evaluation, Score, read_evaluation
from orchestrator.fairness.results import FairnessResult, read_fairness, verdicts
from orchestrator.release.provenance import CARD_FILE, write_statement
from orchestrator.rounds.round import weights_digest
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.saved import Run
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.kinds import MECHANISM_TRAITS
from orchestrator.units import NOT_SHOWN, TOO_FEW, worst_tenth_text

_BUILT_IN = (
    "Typed chat of students of one American university with strangers, for a competition in 2018: not a sample of "
    "anybody else, not what people type to friends, full of its own topics, in American English, and with names of "
    "people and places in it."
)
_LICENCES = {  # by whether the text is the built-in one; in words, and as a hub names it
    True: ("The built-in text is under the MIT licence, fedkeys under Apache-2.0.", "mit"),
    False: ("Nobody named a licence of the text: name the model's here before you publish it.", "unknown"),
}
_UPLOADS = {  # (what the server has of one client, the attack's view of it)
    "plain": ("one client's update, in the clear", "raw"),
    "secagg": ("one client's upload, masked", "masked"),
    "encrypted": ("one client's upload, encrypted", "encrypted"),
    "split": ("one client's upload, masked for the split sum", "split"),
}
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
    attack_is_stale: bool
    exposure: Optional[Exposure]
    privacy: RunPrivacy

    @property
    def is_private(self) -> bool:
        """True if the card states an epsilon; it then leaves out what comes from training text without noise."""
        return MECHANISM_TRAITS[self.privacy.mechanism].adds_noise

    @property
    def published_scores(self) -> Mapping[str, Score]:
        """The scores that the card shows."""
        return self.evaluation.private_scores if self.is_private else self.evaluation.scores

    @property
    def published_exposure(self) -> Optional[Exposure]:
        """The exposures that the card shows; a private copy is another release, whose epsilon is not the run's."""
        is_of_copy = self.exposure is not None and self.exposure.of_copy
        return None if self.is_private and is_of_copy else self.exposure

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
    stale_fairness = fairness is not None and fairness.weights_sha256 != digest
    attack = read_attack(run.path)
    stale_attack = attack is not None and attack.round_num != round_num
    audit = read_audit(run.path)
    return _Found(
        evaluation=evaluation,
        fairness=None if stale_fairness else fairness,
        fairness_is_stale=stale_fairness,
        attack=None if stale_attack else attack,
        attack_is_stale=stale_attack,
        exposure=None if audit is None or audit.round_num != round_num else audit.exposure,
        privacy=run_privacy(run),
    )


def _render(run: Run, digest: str, found: _Found) -> str:
    """Returns the card: the template, filled."""
    state, fairness, model = run.newest, found.published_fairness, found.evaluation.model
    lines = [line for line in run.rounds if line.round_num <= state.round_num]
    template = _environment().get_template("model_card.md.j2")
    return template.render(
        front_matter=yaml.safe_dump(_front_matter(run, found), sort_keys=False, allow_unicode=True),
        name=_name(run),
        num_weights=f"{run.identity.num_weights:,}",
        round_num=state.round_num,
        weights_sha256=digest,
        data_text=_BUILT_IN if run.has_built_in_text else _GIVEN,
        licence=_LICENCES[run.has_built_in_text][0],
        date=_date(run),
        identity=run.identity,
        words=run.words.statement,
        start=run.start.statement if run.start else "",
        config=run.config,
        took_part=len({name for line in lines for name in line.survivors} - set(canary_names(run.config.audit))),
        hidden=what_is_hidden(run.config.audit),
        forgotten=len(forgotten_places(run.config.data.forgotten)),
        completed=sum(line.outcome == "completed" for line in lines),
        abandoned=sum(line.outcome == "abandoned" for line in lines),
        evaluation=found.evaluation,
        scores=[(found.evaluation.labels[name], score) for name, score in found.published_scores.items()],
        interval=_interval(found.evaluation.model.top1_interval),
        fairness=fairness,
        fairness_why=found.fairness_why,
        verdicts=verdicts(fairness) if fairness else [],
        privacy=found.privacy,
        is_private=found.is_private,
        attack=found.attack,
        attack_why=" for these weights" if found.attack_is_stale else "",
        attack_rows=[] if found.attack is None else list(_attack_rows(run, found.attack)),
        attacked=0 if found.attack is None else len(found.attack.clients),
        exposure=found.published_exposure,
        min_group=MIN_GROUP,
        too_few=TOO_FEW,
        worst_tenth=worst_tenth_text(model.top1_worst_tenth_mean, model.clients_averaged),
        vocabulary_size=f"{ModelSize.of(state.model, run.config.model.kind).vocabulary_size:,}",
        record=len(run.record) if run.has_record else 0,
    )


def _environment() -> jinja2.Environment:
    """Returns what fills the template: it refuses a name that is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: NOT_SHOWN if share is None else f"{100 * share:.1f} %"
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    return environment


def _name(run: Run) -> str:
    return f"fedkeys {run.identity.corpus_name}"


def _front_matter(run: Run, found: _Found) -> dict[str, object]:
    """Returns what a hub reads: what the model does, and the results as its leaderboards take them."""
    model, text = found.evaluation.model, run.identity.corpus_name
    metrics = [
        {"type": "accuracy", "name": name, "value": round(value, 6)}
        for name, value in (
            ("top-1 recall of the next word", model.top1),
            ("top-3 recall of the next word", model.top3),
        )
    ]
    shown = found.evaluation.clients >= MIN_GROUP
    return {
        **({"language": ["en"]} if run.has_built_in_text else {}),
        "license": _LICENCES[run.has_built_in_text][1],
        "date": _date(run),
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
        ]
        if shown
        else [],
    }


def _interval(interval: Optional[tuple[float, float]]) -> str:
    return "none with one person" if interval is None else f"{100 * interval[0]:.1f} % to {100 * interval[1]:.1f} %"


def _date(run: Run) -> str:
    """Returns the UTC day on which the newest checkpoint was written: the same run gives the same card."""
    written = run.folder.checkpoint_path(run.newest.round_num).stat().st_mtime
    return datetime.datetime.fromtimestamp(written, datetime.timezone.utc).date().isoformat()


def _attack_rows(run: Run, attack: AttackResult) -> Iterator[tuple[str, ...]]:
    """Yields what the run's own server has, with each rule's AUC; it takes over no word of anybody's."""
    for label, view in _views_of(run):
        rules = attack.views.get(view)
        if rules is None:
            yield (label, *["not measured"] * len(RULES))
        else:
            yield (label, *(_auc_text(attack, rules.get(rule)) for rule in RULES))


def _views_of(run: Run) -> Iterator[tuple[str, str]]:
    """Yields (what the server of this run, which adds no noise, has; the attack's view of it)."""
    aggregator = run.config.aggregation.aggregator
    yield _UPLOADS.get(aggregator, (f"one client's upload ({aggregator})", ""))
    summed = run.config.rounds.cohort_size // run.config.aggregation.groups
    yield f"the sum of {summed} clients", f"sum_{summed}"


def _auc_text(attack: AttackResult, score: Optional[attack_results.Score]) -> str:
    if score is None:
        return "not measured"
    error = attack.auc_error(score)
    return f"{score.auc:.3f}" + ("" if error is None else f" ± {error:.3f}")

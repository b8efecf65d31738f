"""DIR/MODEL_CARD.md: what a model is for, what it was made from, what it can and can't do.

Source: Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the front matter as Hugging Face reads it,
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import jinja2
import yaml

from models.files import write_atomically
from models.weights import ModelSize
from orchestrator.audit.attack_results import AttackResult, read_attack
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.privacy import run_privacy
from orchestrator.evaluation.results import EVALUATION_FILE, LABELS, read_evaluation
from orchestrator.fairness.results import read_fairness, verdicts
from orchestrator.release.provenance import CARD_FILE, write_statement
from orchestrator.rounds.round import weights_digest
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.record import RECORD_FILE, read_record
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


def write_card(run: Run, key: Optional[Path]) -> dict[str, Any]:
    """The figures of `fedkeys card`; writes DIR/MODEL_CARD.md and the statement about it.

    Args:
      run: evaluated at its newest checkpoint.
      key: to sign the statement with; None leaves it unsigned.

    Raises:
      RunFolderError: the run has no evaluation, or one of another round; a file is damaged.
      EdgeError: the key can't be used.
    """
    config, identity, state = run.config, run.identity, run.newest
    evaluation = read_evaluation(run.path)
    if evaluation is None:
        raise RunFolderError(
            f"{run.path} has no evaluation, and a card without results says nothing: run `fedkeys evaluate --run "
            f"{run.path}` first"
        )
    if evaluation.round_num != state.round_num:
        raise RunFolderError(
            f"{run.path / EVALUATION_FILE} is of round {evaluation.round_num}, the newest checkpoint of "
            f"round {state.round_num}: run `fedkeys evaluate --run {run.path}` again"
        )
    digest, reports = weights_digest(state.model), [line for line in run.rounds if line.round_num <= state.round_num]
    fairness, attack = read_fairness(run.path), read_attack(run.path)
    is_stale = fairness is not None and fairness.weights_sha256 != digest
    if is_stale:
        fairness = None
    has_record = (run.path / RECORD_FILE).exists()
    values = {
        "name": f"fedkeys {identity.corpus_name}",
        "num_weights": f"{identity.num_weights:,}",
        "round_num": state.round_num,
        "weights_sha256": digest,
        "data_text": _BUILT_IN if config.data.source == "chitchat" else _GIVEN,
        "corpus_name": identity.corpus_name,
        "corpus_sha256": identity.corpus_sha256,
        "took_part": len({name for report in reports for name in report.survivors} - set(canary_names(config))),
        "hidden": what_is_hidden(config.audit),
        "completed": sum(report.outcome == "completed" for report in reports),
        "abandoned": sum(report.outcome == "abandoned" for report in reports),
        "cohort_size": config.rounds.cohort_size,
        "aggregator": config.aggregation.aggregator,
        "evaluation": evaluation,
        "scores": [(LABELS[name], score) for name, score in evaluation.scores.items()],
        "interval": _interval(evaluation.model.top1_interval),
        "fairness": fairness,
        "fairness_why": " for these weights" if is_stale else "",
        "verdicts": verdicts(fairness) if fairness else [],
        "privacy": run_privacy(run),
        "attack": attack,
        "attack_rows": _attack_rows(attack),
        "vocabulary_size": f"{ModelSize.of(state.model).vocabulary_size:,}",
        "record": len(read_record(run.path)) if has_record else 0,
    }
    front_matter = yaml.safe_dump(_front_matter(values), sort_keys=False, allow_unicode=True)
    card = _render({**values, "front_matter": front_matter})
    path = run.path / CARD_FILE
    write_atomically(path, card.encode())
    statement = write_statement(run, digest, state.round_num, key)
    return {"card": str(path), "statement": str(statement), "signed": key is not None, "weights_sha256": digest}


def _front_matter(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a hub reads: what the model does, and the results as its leaderboards take them."""
    model = values["evaluation"].model
    metrics = [
        {"type": "accuracy", "name": name, "value": round(getattr(model, field), 6)}
        for name, field in (("top-1 recall of the next word", "top1"), ("top-3 recall of the next word", "top3"))
    ]
    private = MECHANISM_TRAITS[values["privacy"].mechanism].adds_noise
    return {
        **({"language": ["en"]} if values["data_text"] is _BUILT_IN else {}),
        "library_name": "fedkeys",
        "pipeline_tag": "text-generation",
        "tags": ["federated-learning", "next-word-prediction", *(["differential-privacy"] if private else [])],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": values["name"],
                "results": [
                    {
                        "task": {"type": "text-generation", "name": "next word"},
                        "dataset": {"type": values["corpus_name"], "name": f"{values['corpus_name']}, test people"},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _render(values: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: "-" if share is None else f"{100 * share:.1f} %"
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    return environment.get_template("model_card.md.j2").render(values)


def _interval(interval: Optional[tuple[float, float]]) -> str:
    return "none with one person" if interval is None else f"{100 * interval[0]:.1f} % to {100 * interval[1]:.1f} %"


def _attack_rows(attack: Optional[AttackResult]) -> list[tuple[str, str]]:
    """(view, the best rule's AUC); no word of anybody's is taken over from the attack."""
    rows = []
    for view, rules in (attack.views if attack else {}).items():
        rows.append((view, "not measured" if rules is None else f"{max(own.auc for own in rules.values()):.3f}"))
    return rows

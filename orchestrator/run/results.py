"""DIR/evaluation.json as types, and how a folder's JSON is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, TypeVar

import msgspec

from orchestrator.errors import RunFolderError
from orchestrator.run.folder import RunFolder

BARS = ("unigram", "bigram", "trigram")


_Figures = TypeVar("_Figures")


class Score(msgspec.Struct, frozen=True):
    """One predictor on the test people. See models.metrics.RecallSummary; None where there are too few people."""

    top1: float
    top3: float
    loss_nats_per_token: float
    top1_interval: Optional[tuple[float, float]] = None
    top1_per_client_mean: Optional[float] = None
    top1_worst_tenth_mean: Optional[float] = None
    top1_minus_trigram: Optional[float] = None
    top1_minus_trigram_interval: Optional[tuple[float, float]] = None
    model_weight: Optional[float] = None


class Personalised(msgspec.Struct, frozen=True):
    """Fine-tuning for each test person, scored on their later text."""

    clients: int
    before: Score
    after: Score
    top1_gain: float
    share_better: float
    share_worse: float
    top1_gain_interval: Optional[tuple[float, float]] = None
    history_share: float = 0.8
    setting: str = ""
    top1_gain_of_others: Optional[float] = None  # without the person who gains most
    per_person_gain: tuple[float, ...] = ()


class Prediction(msgspec.Struct, frozen=True):
    """A suggestion."""

    word: str
    probability: float


class Example(msgspec.Struct, frozen=True):
    """A text and what the model proposes next, likeliest first."""

    text: str
    predictions: tuple[Prediction, ...]


class Evaluation(msgspec.Struct, frozen=True):
    """DIR/evaluation.json, as `fedkeys evaluate` writes it."""

    model: Score
    unigram: Score
    bigram: Score
    trigram: Score
    mixed: Score
    positions: int
    clients: int
    oov_rate: float
    round_num: Optional[int] = None
    per_person_top1: Mapping[str, tuple[float, ...]] = {}
    examples: tuple[Example, ...] = ()
    personalised: Optional[Personalised] = None


def read_figures(file: Path, kind: type[_Figures], command: str) -> Optional[_Figures]:
    """What a command left in a file of a run's folder, None if it was not run yet.

    Raises:
      RunFolderError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is damaged ({error}): run `fedkeys {command} --run {file.parent}`") from None


def _read_evaluation(folder: RunFolder) -> Optional[Evaluation]:
    path = folder.path / "evaluation.json"
    try:
        content = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): run `fedkeys evaluate --run {folder.path}`") from None
    return _convert(content, Evaluation, path)


def _convert(content: Any, kind: Any, path: Any) -> Any:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise RunFolderError(f"{path} is damaged or of another fedkeys: {error}") from None

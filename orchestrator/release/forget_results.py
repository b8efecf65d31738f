"""What `fedkeys forget` finds, as it prints it and as the new run's folder holds it; and the statement about it."""

from __future__ import annotations

from typing import Optional

import msgspec
import numpy as np

from models.metrics import ClientSums
from orchestrator.release.provenance import STATEMENT_TYPE, Subject

FIGURES_FILE = "forgotten.json"
STATEMENT_FILE = "forgotten.intoto.json"
PREDICATE_TYPE = "urn:fedkeys:forget:v1"


class Scores(msgspec.Struct, frozen=True):
    """How a model does on some people's words: pooled for one person, the mean over people for several."""

    loss_nats_per_token: float
    top1: float


class Moved(msgspec.Struct, frozen=True):
    """Scores by the weights that knew the person, and by those that do not."""

    before: Scores
    after: Scores


class Exposure(msgspec.Struct, frozen=True):
    """How far the models differ on the person's sentences, beside people who never trained in either run.

    Attributes:
      sentences: of the person, scored.
      person: their scores.
      strangers: the mean scores of the test people.
      num_strangers: how many they are.
      deviation: of the strangers' changes in loss, a standard deviation, in nats.
      as_far: how many strangers' loss rose by as much as the person's, or by more.
    """

    sentences: int
    person: Moved
    strangers: Moved
    num_strangers: int
    deviation: float
    as_far: int


class Spent(msgspec.Struct, frozen=True):
    """Differential privacy: the epsilon of all releases of each run, and of both together, at delta.

    A run's releases are its model, its n-gram and its word list; what the new run took over counts for both, and once
    together. None: no epsilon holds.
    """

    before: Optional[float]
    after: Optional[float]
    both: Optional[float]
    delta: float


class RunDigests(msgspec.Struct, frozen=True, rename="camel"):
    """A run by its digests; SHA-256 (hex) each."""

    weights_sha256: str
    config_sha256: str
    corpus_sha256: str
    record_sha256: str  # of the last entry of its record, which holds the hashes of all before


class ForgetPredicate(msgspec.Struct, frozen=True, rename="camel"):
    """What was forgotten, and how.

    Attributes:
      person: HMAC-SHA-256 (hex) of their id, under the salt of the run's record.
      rounds: those of the run before that they were drawn for.
      first_round: the first of these; None if there is none.
      in_first_weights: their words were counted for the weights before round 1.
      retrained_from: the round whose state the training went on from; 0 is the start.
      rounds_retrained: how many rounds were computed anew.
      before, after: the two runs.
      method: in words.
      remains: what is left of the person, and where, in words.
      epsilon: None without differential privacy.
    """

    person: str
    rounds: tuple[int, ...]
    first_round: Optional[int]
    in_first_weights: bool
    retrained_from: int
    rounds_retrained: int
    before: RunDigests
    after: RunDigests
    method: str
    remains: tuple[str, ...]
    epsilon: Optional[Spent]


class ForgetStatement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    """In-toto Statement v1 with the predicate of `fedkeys forget`."""

    subject: tuple[Subject, ...]
    predicate: ForgetPredicate
    kind: str = STATEMENT_TYPE
    predicate_type: str = PREDICATE_TYPE


class ForgetFigures(msgspec.Struct, frozen=True):
    """DIR/forgotten.json: the statement's content, the exposure, and where the statement is.

    exposure is None if no word of the person can be scored.
    """

    run: str
    statement: str
    signed: bool
    forgotten: ForgetPredicate
    exposure: Optional[Exposure]


def compare_exposure(before: ClientSums, after: ClientSums, num_sentences: int) -> Optional[Exposure]:
    """Compares a person with strangers, by two models.

    Args:
      before, after: sums of the same positions by the two models; the person comes first, then the strangers.
      num_sentences: of the person.

    Returns: None if no position of the person, or none of a stranger, is scored.
    """
    is_scored = before.positions > 0
    if not is_scored[0] or not is_scored[1:].any():
        return None
    strangers = np.flatnonzero(is_scored)[1:]
    rise = (after.nll_sum_nats - before.nll_sum_nats) / np.maximum(before.positions, 1)
    of_strangers = rise[strangers]
    return Exposure(
        sentences=num_sentences,
        person=Moved(_scores(before, np.array([0])), _scores(after, np.array([0]))),
        strangers=Moved(_scores(before, strangers), _scores(after, strangers)),
        num_strangers=len(strangers),
        deviation=float(of_strangers.std(ddof=1)) if len(strangers) > 1 else 0.0,
        as_far=int(np.count_nonzero(of_strangers >= rise[0])),
    )


def _scores(sums: ClientSums, people: np.ndarray) -> Scores:
    """The mean over people of their loss and recall."""
    positions = sums.positions[people]
    loss, hits = sums.nll_sum_nats[people] / positions, sums.hits1[people] / positions
    return Scores(float(loss.mean()), float(hits.mean()))

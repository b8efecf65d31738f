"""Tells which words were typed from a model update, by three published rules, and measures how well the rules do.

A score [V] is higher the likelier a word was typed. The threshold of each rule needs no knowledge of the text. delta =
server's weights minus the client's, so that it points along the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.errors import RoleError
from models.own_network import is_own, short_name
from models.vocabulary import NUM_SPECIAL
from orchestrator.audit.attack_results import Recovery
from orchestrator.settings.model import ModelConfig

RULES = ("bias_sign", "row_direction", "row_norm")
_TINY = 1e-30
_NORM_OUTLIER = 4.0  # robust standard deviations above the median


def require_readable(model: ModelConfig) -> None:
    """Refuses networks whose updates the attack's rules can't read.

    Raises:
      RoleError: the rules don't know the kind, or the weights that they read are frozen.
    """
    size = model.size
    size.role("output_bias")
    if is_own(size.kind):
        raise RoleError(
            f"model.kind = {short_name(size.kind)!r} is a network of somebody's own, and the attack's rules read the "
            "rows that enter fedkeys' output layer: attack a run of a built-in kind"
        )
    if not size.architecture.is_tied:
        raise RoleError(
            f"model.kind = {size.kind!r} has an output layer apart from its embedding, and the attack's rules read a "
            "tied embedding: attack a run of another kind"
        )
    silent = sorted({size.role("embedding"), size.role("output_bias")} & set(model.frozen_names))
    if silent:
        raise RoleError(
            f"model.frozen = {model.frozen}: the attack's rules read {' and '.join(silent)}, which nobody sends: "
            "attack a run that trains them"
        )


def score_words(
    embedding: NDArray[np.floating], output_bias: NDArray[np.floating]
) -> dict[str, tuple[NDArray[np.floating], float]]:
    """Returns {rule: (score [V], threshold above which a word is called typed)}.

    bias_sign: a word's output bias moves by its predicted minus its true share, so it rises only if it was typed.
    row_direction: the same for the rows of the output embedding: those of words not typed all move along the mean
      hidden state, by different lengths; a typed word's row moves against it. Needs no bias.
    row_norm: rows of typed words stand out, since the input's gradient is added to them (tied embeddings).

    Args:
      embedding: [V, D], the update of the tied embedding.
      output_bias: [V].

    Source: bias_sign: Suliman and Leith 2023, https://arxiv.org/abs/2210.16947. row_direction: the sign argument of
    Zhao et al. 2020 (iDLG), https://arxiv.org/abs/2001.02610, on rows. row_norm: Melis et al. 2019,
    https://arxiv.org/abs/1805.04049; untied rows are exactly zero unless typed, tied ones need a threshold.

    >>> rows = np.array([[0.0, 0]] * 4 + [[1.0, 0], [2.0, 0.1], [-9.0, 1], [1.5, 0]])
    >>> scores = score_words(rows, np.array([0.0] * 4 + [0.1, 0.2, -0.5, 0.1]))
    >>> [int(np.argmax(score)) for score, _ in scores.values()]
    [6, 6, 6]
    """
    norms = np.linalg.norm(embedding.astype(np.float64), axis=1)
    units = embedding / (norms[:, np.newaxis] + _TINY)
    towards = units[NUM_SPECIAL:].mean(0)
    logs = np.log(norms + _TINY)
    words = logs[NUM_SPECIAL:]
    median = float(np.median(words))
    spread = 1.4826 * float(np.median(np.abs(words - median)))  # a normal variable's standard deviation
    return {
        "bias_sign": (-output_bias.astype(np.float64), 0.0),
        "row_direction": (-(embedding @ towards).astype(np.float64), 0.0),
        "row_norm": (logs, median + _NORM_OUTLIER * spread),
    }


def measure(score: NDArray[np.floating], threshold: float, typed: NDArray[np.bool_]) -> Recovery:
    """Measures how well a score tells the typed words; special ids are left out.

    Args:
      score: [V].
      threshold: words that score above are called typed.
      typed: [V], the truth; some words are typed, some are not.

    Raises:
      ValueError: all words are typed, or none.

    >>> measure(np.array([0.0] * 4 + [3.0, 2, 1, 0]), 1.5, np.array([False] * 4 + [True, False, True, False]))
    Recovery(precision=0.5, recall=0.5, f1=0.5, best_f1=0.8, auc=0.75)
    """
    score, typed = score[NUM_SPECIAL:], typed[NUM_SPECIAL:]
    num_typed, num_others = int(typed.sum()), int((~typed).sum())
    if not num_typed or not num_others:
        raise ValueError(f"typed must hold both typed and other words, got {num_typed} and {num_others}")
    called = score > threshold
    hits = int((called & typed).sum())
    order = np.argsort(-score, kind="stable")
    hits_of_first = np.cumsum(typed[order])
    f1_of_first = 2.0 * hits_of_first / (np.arange(1, len(order) + 1) + num_typed)
    return Recovery(
        precision=hits / max(1, int(called.sum())),
        recall=hits / num_typed,
        f1=2.0 * hits / (int(called.sum()) + num_typed),
        best_f1=float(f1_of_first.max()),
        auc=_auc(score, typed),
    )


def _auc(score: NDArray[np.floating], typed: NDArray[np.bool_]) -> float:
    """Returns the area under the ROC curve; ties count half.

    Source: Hanley and McNeil 1982, the Mann-Whitney form.
    """
    from scipy.stats import rankdata

    num_typed, num_others = int(typed.sum()), int((~typed).sum())
    rank_sum = float(rankdata(score)[typed].sum())
    return (rank_sum - num_typed * (num_typed + 1) / 2) / (num_typed * num_others)


def chance_auc_error(num_typed: int, num_others: int) -> float:
    """Returns the standard error of the AUC of a score that knows nothing: sqrt((m + n + 1) / (12 m n)).

    Source: the Mann-Whitney statistic's variance without ties.

    >>> round(chance_auc_error(100, 4900), 4)
    0.0292
    """
    return math.sqrt((num_typed + num_others + 1) / (12.0 * num_typed * num_others))


def guess_frequent(typed: NDArray[np.bool_]) -> Recovery:
    """Measures the baseline: it sees no update, and names as many of the most frequent words as were typed.

    Ids are in the order of frequency, which every client knows; the right number is a gift to the guess.
    """
    score = -np.arange(len(typed), dtype=np.float64)
    num_typed = int(typed[NUM_SPECIAL:].sum())
    return measure(score, -(NUM_SPECIAL + num_typed) + 0.5, typed)


def readable_words(
    embedding: NDArray[np.floating], output_bias: NDArray[np.floating], words: NDArray[np.bool_]
) -> NDArray[np.int_]:
    """Returns the ids among `words` [V] that bias_sign calls typed, the loudest first."""
    score, threshold = score_words(embedding, output_bias)["bias_sign"]
    ids = np.flatnonzero(words & (score > threshold))
    ids = ids[ids >= NUM_SPECIAL]
    return ids[np.argsort(-score[ids], kind="stable")]


def best_auc(embedding: NDArray[np.floating], output_bias: NDArray[np.floating], typed: NDArray[np.bool_]) -> float:
    """Returns the AUC of whichever rule does best, as if the attacker had the luck to pick it."""
    scores: Mapping[str, tuple] = score_words(embedding, output_bias)
    return max(_auc(score[NUM_SPECIAL:], typed[NUM_SPECIAL:]) for score, _ in scores.values())

"""Measures what a whole training tells of its canary clients: an estimate and a lower bound of the run's epsilon.

The attacker knows the canaries' directions, the rounds that each was in, and the correlation of the noise. It does not
know the coin that decided whether a canary sent its direction or zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.audit.leakage_results import Estimate, WholeRun
from orchestrator.audit.one_run import CONFIDENCE, bound_by_guesses
from orchestrator.audit.summed_scores import bound_by_sum
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.correlated import unit_responses
from orchestrator.privacy.mechanism import noise_sequence
from orchestrator.run.lines import Round
from orchestrator.settings.privacy import PrivacyConfig

GUESSED_SHARE = 0.5  # of the canaries, fixed here, before any outcome
_CAP = 200.0  # the largest epsilon that is worked out
_FEWEST = 4  # canaries in, and out


def audit_whole_run(
    members: Sequence[ClientId],
    included: NDArray[np.bool_],
    reports: Sequence[Round],
    model_products: Sequence[float],
    privacy: PrivacyConfig,
    delta: float,
) -> Optional[WholeRun]:
    """Audits a run's canary clients; returns None if too few of them took part.

    Args:
      members: the canary clients.
      included: who sent its direction, [members].
      reports: the rounds of rounds.jsonl.
      model_products: the inner products of the directions with what the training took off the initial weights, in any
        unit, [members].
      privacy: the run's settings, resolved.
      delta: at which epsilon is wanted.

    Source: canary clients: Andrew et al. 2023, https://arxiv.org/abs/2302.03098, with the matched filter of known
    rounds and noise in place of the largest cosine; the bounds: Steinke et al. 2023, https://arxiv.org/abs/2305.08846,
    and orchestrator.audit.summed_scores.
    """
    released = [report for report in reports if report.canary_products is not None]
    took_part = np.array([[member in set(r.survivors) for member in members] for r in released], float)
    times = took_part.sum(0) if released else np.zeros(len(members))
    chosen = times > 0  # no coin has a say in it
    if min((chosen & included).sum(), (chosen & ~included).sum()) < _FEWEST:
        return None
    products = np.array([r.canary_products for r in released])[:, chosen]
    scores, expected = matched_scores(
        products, took_part[:, chosen], noise_covariance(privacy, [r.round_num for r in released])
    )
    included = included[chosen]
    spread = _spread_of_out(scores, included)
    # The logarithm of the likelihood ratio, up to a factor: a canary that could hardly be seen is not guessed at.
    evidence = expected * scores - expected**2 / 2
    num_guesses = int(GUESSED_SHARE * len(scores))
    return WholeRun(
        canaries=len(scores),
        included=int(included.sum()),
        rounds=len(released),
        all_releases=_estimate(scores, expected, included, delta),
        final_model=_estimate(np.asarray(model_products)[chosen], times[chosen], included, delta),
        one_run=bound_by_guesses(evidence, included, num_guesses, delta),
        scores_in=tuple((scores[included] / spread).tolist()),
        scores_out=tuple((scores[~included] / spread).tolist()),
        summed_scores=bound_by_sum(evidence, included, num_guesses, delta, CONFIDENCE),
    )


def noise_covariance(privacy: PrivacyConfig, round_nums: Sequence[int]) -> NDArray[np.float64]:
    """Returns the covariance of a coordinate's noise between these rounds, [rounds, rounds], up to a factor."""
    if not privacy.traits.is_correlated:
        return np.eye(len(round_nums))
    responses = unit_responses(lambda draw: noise_sequence(privacy, draw), max(round_nums))
    own = responses[np.array(round_nums) - 1]
    return own @ own.T


def matched_scores(
    products: NDArray[np.float64], took_part: NDArray[np.float64], covariance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the score of each canary and what it would be on average if the canary is in, both [canaries].

    The best linear test for a known signal in noise of a known covariance, scaled so that all scores have the same
    variance: that of the noise in one coordinate.

    Args:
      products: inner products of each canary's direction with each round's sum, in clip norms, [rounds, canaries].
      took_part: 1 where the canary was in the round's sum, else 0, [rounds, canaries].
      covariance: of the rounds' noise, [rounds, rounds].

    >>> matched_scores(np.array([[3.0], [1.0]]), np.ones((2, 1)), np.eye(2))
    (array([2.82842712]), array([1.41421356]))
    """
    filters = np.linalg.solve(covariance, took_part)
    expected = np.sqrt((filters * took_part).sum(0))
    return (filters * products).sum(0) / expected, expected


def _estimate(
    scores: NDArray[np.float64], expected: NDArray[np.float64], included: NDArray[np.bool_], delta: float
) -> Estimate:
    """Returns the shift of whoever should shift most, from all canaries' scores; the interval is a normal one."""
    weights = expected[included]
    factor = float(scores[included] @ weights / (weights @ weights))  # by least squares; 1 if all is as expected
    shift = factor * float(expected.max()) / _spread_of_out(scores, included)
    error = math.sqrt(float(expected.max()) ** 2 / float(weights @ weights) + shift**2 / (2 * int((~included).sum())))
    low, high = shift - 1.96 * error, shift + 1.96 * error
    return Estimate(shift, _epsilon(shift, delta), (_epsilon(low, delta), _epsilon(high, delta)))


def _spread_of_out(scores: NDArray[np.float64], included: NDArray[np.bool_]) -> float:
    """Returns the standard deviation of the scores of who is out, whose mean is 0: their directions are in nothing."""
    return float(np.sqrt(np.square(scores[~included]).mean()))


def _epsilon(shift: float, delta: float) -> Optional[float]:
    if shift > 2 * _CAP**0.5:  # rho = shift**2 / 2 beyond twice the cap
        return None
    epsilon = Cost(max(0.0, shift) ** 2 / 2).epsilon(delta)
    return epsilon if epsilon <= _CAP else None

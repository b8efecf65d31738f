"""The bound by weighted guesses: against the best mechanism there is, and on mechanisms of known privacy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_matrix
from scipy.stats import binom, norm

from orchestrator.audit.one_run import bound_by_guesses, epsilon_lower_bound
from orchestrator.audit.summed_scores import (
    _play,
    bound_by_sum,
    epsilon_delta_curve,
    gaussian_curve,
    largest_refuted,
    rank_weights,
    weigh_right,
)
from orchestrator.privacy.accounting import Cost

TRIALS = 2000
MOST_TOO_HIGH = int(binom.ppf(1 - 1e-6, TRIALS, 0.05))  # of the trials, if each exceeds the truth with 5 %


def chance_allowed(weights, total, num_canaries, curve, parameter):
    """The theorem's right side, at the best of its hinges and prices."""
    game = _play(weights)
    excess = num_canaries * (1 - game.chances) * curve(game.hinges, parameter)
    return float((game.values[..., total] + excess[:, np.newaxis] * game.prices).min())


def best_chance(num_canaries, weights, total, delta_at):
    """The largest P(T >= total) of all mechanisms with a curve, by a linear program.

    A release is whom the attacker guesses, in which order, and which guesses are wrong; the coins' values don't matter.
    """
    modes = list(itertools.permutations(range(num_canaries), len(weights)))
    wrong = list(itertools.product((False, True), repeat=num_canaries))
    cells = {cell: number for number, cell in enumerate(itertools.product(modes, wrong))}
    rows, right_sides, slacks = [], [], 0
    for canary, (e, delta) in itertools.product(range(num_canaries), delta_at.items()):
        own = []
        for (mode, cell), number in cells.items():
            other = (*cell[:canary], not cell[canary], *cell[canary + 1 :])
            own.append(len(cells) + slacks)
            rows.append({number: 1.0, cells[mode, other]: -math.exp(e), own[-1]: -1.0})
            right_sides.append(0.0)
            slacks += 1
        rows.append(dict.fromkeys(own, 1.0))
        right_sides.append(delta)
    at = [(i, j, value) for i, row in enumerate(rows) for j, value in row.items()]
    shape = (len(rows), len(cells) + slacks)
    matrix = coo_matrix(([v for _, _, v in at], ([i for i, _, _ in at], [j for _, j, _ in at])), shape).tocsr()
    wins, is_release = np.zeros(shape[1]), np.zeros((1, shape[1]))
    is_release[0, : len(cells)] = 1.0
    for (mode, cell), number in cells.items():
        wins[number] = sum(v for v, canary in zip(weights, mode) if not cell[canary]) >= total
    found = linprog(-wins, matrix, right_sides, is_release, [1.0], method="highs")
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize(
    ("num_canaries", "weights", "total"),
    [(2, (1, 1), 2), (2, (1,), 1), (3, (1, 1, 1), 3), (3, (1, 1, 1), 2), (3, (2, 1), 3), (3, (2, 1), 2), (3, (1,), 1)],
)
@pytest.mark.parametrize(("curve", "parameter"), [(gaussian_curve, 0.6), (epsilon_delta_curve(0.05), 0.5)])
def test_no_mechanism_does_better_than_the_theorem_allows(num_canaries, weights, total, curve, parameter):
    hinges = np.linspace(0.1, 3.0, 30)  # of the theorem's, so that the program forbids what the theorem forbids
    best = best_chance(num_canaries, weights, total, dict(zip(hinges, curve(hinges, parameter))))
    allowed = chance_allowed(weights, total, num_canaries, curve, parameter)
    assert best <= allowed + 1e-7
    assert allowed < 1.35 * best + 0.05  # and the theorem gives little away


def attacks(tell, num_canaries, num_guesses, seed):
    """Yields T of TRIALS attacks. tell: (coins as signs, rng) -> evidence, whose sign is the guess."""
    rng, weights = np.random.default_rng(seed), rank_weights(num_guesses)
    for _ in range(TRIALS):
        coins = rng.random(num_canaries) < 0.5
        evidence = tell(np.where(coins, 1.0, -1.0), rng)
        yield weigh_right(evidence, coins, weights)


def count_too_high(tell, num_canaries, num_guesses, curve, truth, seed=0):
    """In how many of TRIALS attacks the bound exceeds the truth."""
    weights = rank_weights(num_guesses)
    bounds = {}
    for total in attacks(tell, num_canaries, num_guesses, seed):
        if total not in bounds:
            bounds[total] = largest_refuted(weights, total, num_canaries, curve, 40.0, 0.95)
    # Called again, so that each attack counts; the bounds are a function of T.
    return sum(bounds[total] > truth for total in attacks(tell, num_canaries, num_guesses, seed))


def gaussian(shift):
    return lambda signs, rng: signs * shift / 2 + rng.standard_normal(signs.size)


def gaussian_that_is_as_sure_of_all(shift):
    """The Gaussian curve for each coin, but whoever is lucky is lucky with every coin."""

    def tell(signs, rng):
        sure = abs(shift / 2 + rng.standard_normal())
        right = rng.random(signs.size) < 1 / (1 + math.exp(-shift * sure))
        return np.where(right, signs, -signs) * (1 + 1e-3 * rng.random(signs.size))

    return tell


def randomised_response(epsilon, delta=0.0):
    """Answers that are lies with probability 1 / (1 + e^epsilon); with probability delta all of them are true."""

    def tell(signs, rng):
        lies = rng.random(signs.size) < 1 / (1 + math.exp(epsilon))
        if rng.random() < delta:
            lies[:] = False
        return np.where(lies, -signs, signs) * (1 + 1e-3 * rng.random(signs.size))

    return tell


def with_a_common_part(shift):
    """Gaussian scores with a common error as large as their own, which makes all scores depend on each other."""

    def tell(signs, rng):
        return signs * shift / 2 + (rng.standard_normal(signs.size) + rng.standard_normal()) / math.sqrt(2)

    return tell


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("tell", [gaussian, gaussian_that_is_as_sure_of_all])
def test_a_gaussian_guarantee_is_exceeded_in_one_of_twenty_runs_at_most(shift, tell):
    assert count_too_high(tell(shift), 60, 30, gaussian_curve, shift) <= MOST_TOO_HIGH


@pytest.mark.parametrize(
    ("tell", "delta", "truth"),
    [
        (randomised_response(1.0), 0.0, 1.0),
        (randomised_response(2.0), 0.0, 2.0),
        (randomised_response(1.0, 0.03), 0.03, 1.0),
        (gaussian(1.0), 1e-3, Cost(0.5).epsilon(1e-3)),
        (
            with_a_common_part(0.7),
            1e-3,
            Cost(0.7**2).epsilon(1e-3),
        ),  # the others' coins known: noise of half the variance
    ],
)
def test_the_epsilon_of_any_mechanism_is_exceeded_in_one_of_twenty_runs_at_most(tell, delta, truth):
    assert count_too_high(tell, 60, 30, epsilon_delta_curve(delta), truth) <= MOST_TOO_HIGH


def test_the_trials_would_show_a_bound_that_is_too_high():
    """Half the true epsilon is exceeded nearly always: the bound is not simply low."""
    too_high = count_too_high(randomised_response(2.0), 200, 100, epsilon_delta_curve(0.0), 1.0)
    assert too_high > 0.9 * TRIALS


def right_guesses(weights, chance):
    """The law [count, sum of weights] of guesses that are each right with a chance, whatever the others are."""
    law = np.zeros((len(weights) + 1, sum(weights) + 1))
    law[0, 0] = 1.0
    for weight in weights:
        law, before = (1 - chance) * law, law
        law[1:, weight:] += chance * before[:-1, : before.shape[1] - weight]
    return law


@pytest.mark.parametrize(
    ("num_canaries", "num_guesses", "epsilon", "by_sum", "by_count", "by_either"),
    [
        (60, 30, 1.0, 0.0441, 0.0226, 0.0468),
        (60, 30, 2.0, 0.0432, 0.0222, 0.0432),
        (1000, 200, 1.0, 0.049, 0.048, 0.0647),
    ],
)
def test_each_bound_holds_with_95_percent_and_the_larger_of_both_with_less(
    num_canaries, num_guesses, epsilon, by_sum, by_count, by_either
):
    """Worked out, not sampled, for randomised response: the figures of docs/audit.md."""
    weights, curve = rank_weights(num_guesses), epsilon_delta_curve(0.0)
    law = right_guesses(weights, 1 / (1 + math.exp(-epsilon)))
    assert law.sum() == pytest.approx(1.0)
    sums = [largest_refuted(weights, t, num_canaries, curve, 40.0, 0.95) > epsilon for t in range(law.shape[1])]
    counts = [epsilon_lower_bound(num_canaries, num_guesses, right, 0.0) > epsilon for right in range(law.shape[0])]
    sums, counts = np.array(sums), np.array(counts)[:, np.newaxis]
    found = [law[where & np.ones_like(law, bool)].sum() for where in (sums, counts, sums | counts)]
    assert found == pytest.approx([by_sum, by_count, by_either], abs=5e-5)
    assert max(found[:2]) <= 0.05


def test_weights_prove_more_than_counting():
    rng, delta = np.random.default_rng(3), 5.6e-4
    both = []
    for _ in range(20):
        included = rng.random(200) < 0.5
        scores = gaussian(2.45)(np.where(included, 1.0, -1.0), rng)
        summed = bound_by_sum(scores, included, 100, delta, 0.95)
        both.append(
            (bound_by_guesses(scores, included, 100, delta).epsilon, summed.epsilon, summed.epsilon_if_gaussian)
        )
    counted, weighted, if_gaussian = np.mean(both, 0)
    assert counted < weighted < if_gaussian < Cost(2.45**2 / 2).epsilon(delta)


def test_all_right_is_a_closed_form_without_delta():
    """At delta 0 guesses are coins of probability e^eps / (1 + e^eps), whatever their weights: all n right."""
    weights = rank_weights(100)
    bound = largest_refuted(weights, sum(weights), 500, epsilon_delta_curve(0.0), 40.0, 0.95)
    share = 0.05 ** (1 / 100)
    assert bound == pytest.approx(math.log(share / (1 - share)), abs=0.1)  # the hinges are a tenth apart
    assert bound <= math.log(share / (1 - share))
    assert largest_refuted(weights, 0, 500, epsilon_delta_curve(0.0), 40.0, 0.95) == 0.0


def test_a_curve_is_what_its_mechanism_allows():
    """Randomised response that tells all with probability delta reaches the curve, and two normals reach the other."""
    e, epsilon, delta = np.array([0.0, 0.4, 1.0, 1.7]), 1.0, 0.02
    truth = 1 / (1 + math.exp(-epsilon))
    reached = delta + (1 - delta) * np.maximum(0, truth - np.exp(e) * (1 - truth))
    assert epsilon_delta_curve(delta)(e, epsilon) == pytest.approx(reached)
    x = np.linspace(-10, 12, 200_001)
    for at in e:
        gap = np.maximum(norm.pdf(x, 0.9) - math.exp(at) * norm.pdf(x), 0)
        assert gaussian_curve(np.array([at]), 0.9)[0] == pytest.approx(gap.sum() * (x[1] - x[0]), abs=1e-6)


def test_few_guesses_are_weighed():
    assert rank_weights(1) == (4,)
    assert rank_weights(6) == (4, 4, 3, 2, 2, 1)
    assert weigh_right(np.array([1.0, -1.0]), np.array([True, False]), (4,)) == 4
    assert weigh_right(np.array([1.0, 0.0, -1.0]), np.array([False, True, False]), (3, 2, 1)) == 2 + 1

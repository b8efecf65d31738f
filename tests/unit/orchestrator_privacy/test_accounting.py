"""Known answers of the accountant and of the sensitivities, by closed form, by dp_accounting and by brute force."""

from __future__ import annotations

import functools
import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp

from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError, PrivacyStop
from orchestrator.privacy.accounting import (
    Cost,
    cost_of,
    event_from_json,
    event_to_json,
    gaussian_delta,
    noise_for,
    zcdp_epsilon,
)
from orchestrator.privacy.calibration import noise_of_budget, planned_squared, update_noise
from orchestrator.privacy.correlated import matrix_noise, prefix_variances, tree_noise
from orchestrator.privacy.participation import History
from orchestrator.privacy.sensitivity import (
    banded_squared,
    square_root_coefficients,
    tree_squared,
    tree_squared_of_rotation,
)
from orchestrator.settings.noise_shape import INDEPENDENT, Buffer, NoiseShape


def _tree_squared_at_separation(num_rounds, max_participations, separation):
    """The largest tree_squared of max_participations rounds that lie at least `separation` apart.

    Source: Kairouz, McMahan, Song, Thakkar, Thakurta, Xu 2021, https://arxiv.org/abs/2103.00039, appendix D.2, as a
    product of matrices over (max, +): entry [s, e] of a block is the best for a first participation at or after place
    s, if a participation, which takes `separation` places, may stand e places out at the end.
    """
    start = np.arange(separation)[:, None]
    overhang = np.arange(separation)[None, :]

    @functools.cache
    def best(count, length):
        fits = start + separation * count <= length + overhang
        if count == 0 or not fits.any():
            return np.where(fits, 0.0, -np.inf)
        if length == 1:
            return np.where(fits, 1.0, -np.inf)
        left_length = 1 << ((length - 1).bit_length() - 1)
        own = count**2 if length == 2 * left_length else 0
        result = np.full((separation, separation), -np.inf)
        for right_count in range(count + 1):
            left, right = best(count - right_count, left_length), best(right_count, length - left_length)
            for gap in np.flatnonzero(np.isfinite(left).any(0) & np.isfinite(right).any(1)):
                np.maximum(result, left[:, gap, None] + right[None, gap, :], out=result)
        return np.where(fits, result + own, -np.inf)

    participations = min(max_participations, -(-num_rounds // separation))
    return int(best(participations, num_rounds)[0, -1])


def test_published_spanish_gboard_model():
    """Google's notebook dp_ftrl/blogpost_supplemental_privacy_accounting.ipynb prints 0.81 and 8.90."""
    squared = _tree_squared_at_separation(2000, 6, 313 + 1)  # 313 rounds lie between two participations
    assert squared == 79
    cost = cost_of(dp_accounting.GaussianDpEvent(7.0 / math.sqrt(squared)))
    assert cost.zcdp == pytest.approx(0.806, abs=5e-4)
    assert zcdp_epsilon(cost.zcdp, 1e-10) == pytest.approx(8.898, abs=5e-4)
    assert cost.epsilon(1e-10) == pytest.approx(8.526, abs=5e-4)


@pytest.mark.parametrize(("noise", "epsilon"), [(4.22, 1.0), (1.54, 3.0), (0.541, 10.0)])
def test_published_gaussian_releases(noise, epsilon):
    """Andrew et al. 2023, table 1, at delta 1e-6; its noise is printed with three digits."""
    assert Cost(0.5 / noise**2).epsilon(1e-6) == pytest.approx(epsilon, rel=0.005)


@pytest.mark.parametrize("noise", [0.8, 2.0, 7.0])
@pytest.mark.parametrize("delta", [1e-4, 1e-7])
def test_epsilon_is_that_of_the_pld_and_at_most_that_of_rdp(noise, delta):
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(noise), 5)
    cost = cost_of(event)
    oracle = pld.PLDAccountant().compose(event).get_epsilon(delta)
    assert cost.epsilon(delta) == pytest.approx(oracle, rel=1e-3)
    assert (
        cost.epsilon(delta)
        <= zcdp_epsilon(cost.zcdp, delta)
        <= rdp.RdpAccountant().compose(event).get_epsilon(delta) + 1e-6
    )


@pytest.mark.parametrize("is_gaussian", [True, False])
def test_noise_for_a_budget_is_the_least_that_keeps_it(is_gaussian):
    noise = noise_for(3.0, 1e-5, is_gaussian)
    assert Cost(0.5 / noise**2, is_gaussian).epsilon(1e-5) <= 3.0
    assert Cost(0.5 / (noise * 0.999) ** 2, is_gaussian).epsilon(1e-5) > 3.0


def test_gaussian_delta_at_epsilon_zero_is_the_total_variation():
    assert gaussian_delta(2.0, 0.0) == pytest.approx(math.erf(0.25 / math.sqrt(2)), rel=1e-9)


def test_unknown_events_are_refused():
    with pytest.raises(PrivacyStop, match="LaplaceDpEvent"):
        cost_of(dp_accounting.LaplaceDpEvent(1.0))
    sampled = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
    with pytest.raises(PrivacyStop, match="PoissonSampledDpEvent"):
        cost_of(dp_accounting.ComposedDpEvent([sampled]))
    with pytest.raises(PrivacyStop, match="LaplaceDpEvent"):
        event_to_json(dp_accounting.LaplaceDpEvent(1.0))
    with pytest.raises(PrivacyStop, match="'Other'"):
        event_from_json({"name": "Other"})


def test_events_survive_the_way_to_json_and_back():
    gaussian = dp_accounting.GaussianDpEvent(1.5)
    event = dp_accounting.ComposedDpEvent([dp_accounting.SelfComposedDpEvent(gaussian, 3), dp_accounting.NoOpDpEvent()])
    assert event_from_json(event_to_json(event)) == event


def _tree_matrix(num_rounds: int) -> np.ndarray:
    """A row for each complete node, with ones at its rounds: [nodes, num_rounds]."""
    rows = []
    for level in range(num_rounds.bit_length()):
        for place in range(num_rounds >> level):
            row = np.zeros(num_rounds)
            row[place << level : (place + 1) << level] = 1
            rows.append(row)
    return np.array(rows)


def _toeplitz(coefficients: np.ndarray, num_rounds: int) -> np.ndarray:
    matrix = np.zeros((num_rounds, num_rounds))
    for lag, value in enumerate(coefficients[:num_rounds]):
        matrix += value * np.eye(num_rounds, k=-lag)
    return matrix


def _brute_force(matrix: np.ndarray, participations: int, separation: int) -> float:
    """The largest squared norm of the matrix times a person's contributions of norm at most 1, over all patterns.

    Contributions of one direction are the worst for a matrix without negative entries; signs are tried as well.
    """
    num_rounds, worst = matrix.shape[1], 0.0
    for pattern in itertools.combinations(range(num_rounds), participations):
        if any(b - a < separation for a, b in zip(pattern, pattern[1:])):
            continue
        for signs in itertools.product((1, -1), repeat=participations):
            worst = max(worst, float(np.square(matrix[:, pattern] @ np.array(signs)).sum()))
    return worst


@pytest.mark.parametrize(
    ("num_rounds", "participations", "separation"), [(1, 1, 1), (7, 2, 3), (8, 3, 2), (11, 3, 4), (9, 4, 1)]
)
def test_tree_sensitivity_by_brute_force(num_rounds, participations, separation):
    expected = _brute_force(_tree_matrix(num_rounds), participations, separation)
    assert _tree_squared_at_separation(num_rounds, participations, separation) == expected


@pytest.mark.parametrize(("num_rounds", "separation"), [(1, 1), (7, 3), (8, 2), (12, 5), (13, 4)])
def test_rotation_costs_what_its_worst_turn_costs(num_rounds, separation):
    matrix = _tree_matrix(num_rounds)
    turns = [range(first, num_rounds, separation) for first in range(min(separation, num_rounds))]
    expected = max(float(np.square(matrix[:, list(turn)].sum(1)).sum()) for turn in turns)
    assert tree_squared_of_rotation(num_rounds, separation) == expected
    most = -(-num_rounds // separation)
    assert expected <= _tree_squared_at_separation(num_rounds, most, separation)


@pytest.mark.parametrize(
    ("num_rounds", "bands", "participations", "separation"), [(8, 3, 2, 3), (9, 2, 3, 3), (10, 4, 2, 5)]
)
def test_matrix_sensitivity_by_brute_force(num_rounds, bands, participations, separation):
    coefficients = square_root_coefficients(bands)
    # The last participation's column is cut off by the end of the run unless bands rounds are left.
    expected = _brute_force(_toeplitz(coefficients, num_rounds), participations, separation)
    assert banded_squared(coefficients, participations) == pytest.approx(expected)


def test_full_band_factorises_the_prefix_sums():
    square_root = _toeplitz(square_root_coefficients(12), 12)
    np.testing.assert_allclose(square_root @ square_root, np.tril(np.ones((12, 12))), atol=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 5, 9, 20])
def test_matrix_noise_is_the_inverse_times_white_noise(bands):
    rng, rows = np.random.default_rng(0), {}

    def draw(label):
        return rows.setdefault(label, rng.standard_normal(4))

    coefficients = square_root_coefficients(bands)
    noise = np.array(list(itertools.islice(matrix_noise(draw, coefficients), 45)))
    white = np.array([rows[f"row {place}"] for place in range(1, 46)])
    np.testing.assert_allclose(_toeplitz(coefficients, 45) @ noise, white, atol=1e-5)  # the ring holds float32


def test_tree_noise_has_the_variance_of_the_estimate_from_below():
    variances = prefix_variances(tree_noise, 40)
    for round_num, variance in enumerate(variances, 1):
        levels = [level for level in range(6) if round_num >> level & 1]
        assert variance == pytest.approx(sum(1 / (2 - 2.0**-level) for level in levels))


def test_tree_keeps_a_logarithmic_number_of_vectors():
    sequence = tree_noise(lambda label: np.zeros(1))
    for round_num in range(1, 300):
        next(sequence)
        assert len(sequence.gi_frame.f_locals["complete"]) == bin(round_num).count("1") <= 9


SHAPES = {"matrix": NoiseShape(bands=3), "blt": NoiseShape(buffers=(Buffer(0.9, 0.2), Buffer(0.4, 0.3)))}


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix", "blt", "distributed", "local"])
def test_history_charges_what_was_planned_when_everybody_takes_every_turn(mechanism):
    num_rounds, separation, shape = 23, 4, SHAPES.get(mechanism, INDEPENDENT)
    history = History(mechanism, 2.0, separation, shape)
    for round_num in range(1, num_rounds + 1):
        members = [f"turn {round_num % separation}"]
        after = history.after(round_num, members)
        history.add(round_num, members)
        assert after.event() == history.event()
    planned = planned_squared(mechanism, num_rounds, separation, shape)
    assert cost_of(history.event()).zcdp == pytest.approx(planned / (2 * 2.0**2))


def test_history_counts_rounds_that_were_left_out():
    history = History("tree", 1.0)
    history.add(1, ["a"])
    history.add(5, ["a"])  # 2, 3 and 4 were abandoned
    history.add(8, ["b"])
    assert cost_of(history.event()).zcdp == pytest.approx(tree_squared([1, 5], 8) / 2)


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix", "blt", "distributed", "local"])
def test_a_budget_is_kept_by_its_noise(mechanism):
    shape = SHAPES.get(mechanism, INDEPENDENT)
    noise = noise_of_budget(mechanism, 4.0, 1e-5, 100, 20, shape)
    zcdp = planned_squared(mechanism, 100, 20, shape) / (2 * noise**2)
    assert 3.999 < Cost(zcdp, mechanism != "distributed").epsilon(1e-5) <= 4.0


def test_count_and_update_together_cost_the_noise_multiplier():
    """A person moves the count by a whole 1: a clipped update counts 0 and zeros in its place count 1."""
    rng = np.random.default_rng(0)
    encoder = Encoder(clip_norm=1.0, num_clients=4, max_weight=1, shapes=((3,),), count_under_clip=True)
    long, zeros = (encoder.encode((np.full(3, x, np.float32),), 1, rng)[3] for x in (9.0, 0.0))
    assert abs(int(long) - int(zeros)) == 1
    update = update_noise(1.3, 2.0)
    both = dp_accounting.ComposedDpEvent([dp_accounting.GaussianDpEvent(update), dp_accounting.GaussianDpEvent(2.0)])
    assert cost_of(both).zcdp == pytest.approx(cost_of(dp_accounting.GaussianDpEvent(1.3)).zcdp)


def test_an_epsilon_beyond_all_noise_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"privacy.epsilon = 1e\+09: no noise"):
        noise_for(1e9, 1e-6)

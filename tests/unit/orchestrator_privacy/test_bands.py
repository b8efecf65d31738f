"""The number of bands of the matrix's noise: known figures, and runs whose bands must stay."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.privacy.bands import bands_in_memory, bands_text, choose_bands, compare_bands, noise_of_bands
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.correlated import matrix_noise, prefix_variances
from orchestrator.privacy.sensitivity import banded_squared, square_root_coefficients
from orchestrator.settings.files import config_digest, read_config


def matrix_config(**changes):
    given = {"privacy.bands": 0, **{name.replace("__", "."): value for name, value in changes.items()}}
    return read_config(preset="private", overrides=given)


@pytest.mark.parametrize(
    ("num_rounds", "separation", "bands", "product"),
    [(2000, 313, 64, 15.32), (2000, 313, 313, 9.78), (120, 10, 10, 11.32)],
)
def test_the_noise_of_known_runs(num_rounds, separation, bands, product):
    # Worked out apart from this code, with dense matrices.
    assert noise_of_bands(num_rounds, separation, bands) == pytest.approx(product, abs=0.005)


def test_the_square_root_is_near_the_best():
    # The best Toeplitz matrix of 2,000 rounds has 9.57, the best banded one of 120 rounds 10.74 (jax-privacy 2.0).
    assert 9.57 < noise_of_bands(2000, 313, choose_bands(2000, 313, 1000)) < 1.03 * 9.57
    assert 10.74 < noise_of_bands(120, 10, choose_bands(120, 10, 1000)) < 1.06 * 10.74


@pytest.mark.parametrize(("num_rounds", "separation", "bands"), [(9, 3, 1), (23, 7, 5), (40, 11, 11), (6, 9, 8)])
def test_the_noise_is_that_of_the_mechanisms_own_sequence(num_rounds, separation, bands):
    coefficients = square_root_coefficients(bands)
    variances = prefix_variances(lambda draw: matrix_noise(draw, coefficients), num_rounds)
    squared = banded_squared(coefficients, -(-num_rounds // separation))
    assert noise_of_bands(num_rounds, separation, bands) == pytest.approx(np.sqrt(variances.mean() * squared), rel=1e-6)


@pytest.mark.parametrize(
    ("num_rounds", "separation"), [(1, 1), (5, 100), (12, 10), (100, 100), (120, 10), (300, 80), (700, 350)]
)
def test_no_other_number_of_bands_has_less_noise(num_rounds, separation):
    chosen = choose_bands(num_rounds, separation, most=10_000)
    noises = [noise_of_bands(num_rounds, separation, bands) for bands in range(1, min(separation, num_rounds) + 1)]
    assert chosen == 1 + int(np.argmin(noises))


def test_a_mechanism_of_ones_own_is_judged_by_its_own_matrix():
    def halves(bands):
        return 0.5 ** np.arange(bands)

    noises = [noise_of_bands(20, 20, bands, halves) for bands in range(1, 21)]
    for bands, found in enumerate(noises, 1):
        variances = prefix_variances(lambda draw, bands=bands: matrix_noise(draw, halves(bands)), 20)
        assert found == pytest.approx(np.sqrt(variances.mean() * np.square(halves(bands)).sum()), rel=1e-6)
    assert choose_bands(20, 20, 100, halves) == 1 + int(np.argmin(noises)) != choose_bands(20, 20, 100)


def test_a_long_run_gets_more_than_64_bands_and_a_memory_limit_holds():
    long = {"rounds__count": 2000, "rounds__cohort_size": 10, "privacy__separation": 313}
    assert resolve_privacy(matrix_config(**long), 4000).privacy.bands == 313
    num_weights, limit_mib = 80_528, 30
    config = matrix_config(**long, privacy__noise_memory_mib=limit_mib)
    bands = resolve_privacy(config, 4000).privacy.bands
    assert bands == bands_in_memory(config)
    assert (
        4 * num_weights * (bands + 7) <= limit_mib * 2**20 < 4 * num_weights * (bands + 8)
    )  # README: bands + 7 models
    assert bands_in_memory(matrix_config(privacy__noise_memory_mib=1)) == 1


def test_what_was_chosen_stands_beside_what_it_would_be_otherwise():
    config = matrix_config(rounds__count=2000, privacy__separation=313, privacy__bands=100)
    rows = compare_bands(config, 313, 100)
    assert [row.bands for row in rows] == [1, 64, 100, 313]
    assert [round(row.noise, 2) for row in rows][1::2] == [15.32, 9.78]
    text = bands_text(config)
    assert text.startswith("noise over 100 bands, ")
    assert "64 bands: 15.32" in text
    assert "313 bands: 9.78" in text


def test_a_kept_runs_bands_stay_and_the_memory_limit_is_not_in_its_digest():
    kept = matrix_config(rounds__count=2000, rounds__cohort_size=10, privacy__separation=313, privacy__bands=64)
    assert resolve_privacy(kept, 4000).privacy.bands == 64  # a run's config.toml names them
    before = config_digest(matrix_config())
    assert before != config_digest(matrix_config(privacy__noise_memory_mib=4096))

"""Noise under a BLT: its matrix by hand, its sensitivity by trying everything, its optimum by other software."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from orchestrator.errors import ConfigError, PrivacyStop
from orchestrator.privacy.accounting import cost_of
from orchestrator.privacy.bands import noise_of_bands
from orchestrator.privacy.buffers import buffers_text, choose_buffers, noise_of_buffers
from orchestrator.privacy.calibration import resolve_privacy, shape_of
from orchestrator.privacy.correlated import buffered_noise, prefix_variances
from orchestrator.privacy.ledger import Ledger, LedgerHead, history_of, read_ledger
from orchestrator.privacy.participation import History
from orchestrator.privacy.sensitivity import buffered_coefficients, buffered_squared
from orchestrator.settings.files import config_digest, read_config
from orchestrator.settings.noise_shape import Buffer, NoiseShape, buffers_setting, read_buffers

TWO = (Buffer(0.9, 0.2), Buffer(0.4, 0.3))


def _blt(**changes):
    given = {"privacy.mechanism": "blt", **{name.replace("__", "."): value for name, value in changes.items()}}
    return read_config(preset="private", overrides=given)


def _matrix(buffers, num_rounds):
    """The matrix entry by entry: 1 on the diagonal, below it the sum of scale * decay**(distance - 1)."""
    return np.array(
        [
            [
                1.0 if row == column else sum(b.scale * b.decay ** (row - column - 1) for b in buffers) * (row > column)
                for column in range(num_rounds)
            ]
            for row in range(num_rounds)
        ]
    )


def test_the_column_is_the_matrixs():
    np.testing.assert_allclose(buffered_coefficients(TWO, 9), _matrix(TWO, 9)[:, 0], rtol=1e-12)


def test_the_noise_is_the_inverse_times_white_noise():
    rng, rows = np.random.default_rng(0), {}

    def draw(label):
        rows[label] = rng.standard_normal(4)
        return rows[label].copy()

    noise = np.array(list(itertools.islice(buffered_noise(draw, TWO), 60)))
    np.testing.assert_allclose(_matrix(TWO, 60) @ noise, np.array(list(rows.values())), atol=1e-12)


def test_the_rounds_noise_is_not_changed_by_later_rounds():
    sequence = buffered_noise(lambda label: np.ones(3), TWO)
    first = next(sequence)
    before = first.copy()
    next(sequence)
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(("num_rounds", "separation"), [(7, 1), (8, 3), (10, 4), (6, 9)])
def test_nobody_who_keeps_the_separation_moves_the_rows_more(num_rounds, separation):
    matrix = _matrix(TWO, num_rounds)
    patterns = (
        rounds
        for size in range(1, num_rounds + 1)
        for rounds in itertools.combinations(range(num_rounds), size)
        if all(later - one >= separation for one, later in zip(rounds, rounds[1:]))
    )
    most = max(float(np.square(matrix[:, list(rounds)].sum(1)).sum()) for rounds in patterns)
    assert buffered_squared(TWO, num_rounds, separation) == pytest.approx(most, rel=1e-12)


def test_the_ledger_charges_a_person_for_the_rounds_that_it_took_part_in():
    """Two people with other rounds, one abandoned round, and rows after the last participation."""
    rounds_of = {"a": (1, 4, 9), "b": (2, 5, 6)}
    history = History("blt", 3.0, 1, NoiseShape(buffers=TWO))
    for round_num in (1, 2, 3, 4, 5, 6, 8, 9, 10):  # 7 was abandoned
        history.add(round_num, [name for name, rounds in rounds_of.items() if round_num in rounds])
    matrix = _matrix(TWO, 10)
    squares = [float(np.square(matrix[:, np.array(rounds) - 1].sum(1)).sum()) for rounds in rounds_of.values()]
    assert cost_of(history.event()).zcdp == pytest.approx(max(squares) / (2 * 3.0**2), rel=1e-12)


def test_a_cohort_that_comes_back_too_soon_is_refused():
    history = History("blt", 3.0, 4, NoiseShape(buffers=TWO))
    history.add(1, ["a"])
    with pytest.raises(PrivacyStop, match="'blt'"):
        history.add(1, ["a"])


# Of jax-privacy 2.0.0, buffered_toeplitz.optimize(error="mean"): benchmarks/matrix_noise.py prints them again.
ORACLE = [(2000, 313, 9.926472), (120, 10, 11.572889), (500, 50, 11.498183), (2000, 2000, 3.273695)]


@pytest.mark.parametrize(("num_rounds", "separation", "optimum"), ORACLE)
def test_the_choice_is_the_optimum_of_another_implementation(num_rounds, separation, optimum):
    buffers = choose_buffers(num_rounds, separation)
    assert noise_of_buffers(num_rounds, separation, buffers) == pytest.approx(optimum, rel=1e-4)


@pytest.mark.parametrize(("num_rounds", "separation"), [(120, 10), (60, 60)])
def test_the_noise_is_that_of_the_mechanisms_own_sequence(num_rounds, separation):
    buffers = choose_buffers(num_rounds, separation)
    variances = prefix_variances(lambda draw: buffered_noise(draw, buffers), num_rounds)
    expected = np.sqrt(variances.mean() * buffered_squared(buffers, num_rounds, separation))
    assert noise_of_buffers(num_rounds, separation, buffers) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("num_rounds", "separation"), [(1, 1), (2, 1), (5, 100), (100, 1)])
def test_the_choice_is_sound_where_correlation_gains_little_or_nothing(num_rounds, separation):
    buffers = choose_buffers(num_rounds, separation)
    noise = noise_of_buffers(num_rounds, separation, buffers)
    assert noise <= noise_of_bands(num_rounds, separation, 1) * (1 + 1e-4)


def test_a_run_keeps_the_buffers_that_it_began_with():
    resolved = resolve_privacy(_blt(), 711)
    assert resolved.privacy.bands == 1
    assert resolved.privacy.shape.buffers == choose_buffers(120, 10)
    assert resolve_privacy(resolved, 711) == resolved
    given = resolve_privacy(_blt(privacy__buffers=buffers_setting(TWO)), 711)
    assert given.privacy.shape.buffers == TWO
    assert "2 buffers (decay:scale 0.900000:0.200000 0.400000:0.300000)" in buffers_text(given)


def test_a_matrix_in_the_place_of_a_blt_gets_bands_of_its_own():
    resolved = resolve_privacy(_blt(), 711)
    assert shape_of(resolved, "matrix", 10) == NoiseShape(bands=10)
    assert shape_of(resolved, "tree", 10) == NoiseShape()


def test_the_setting_is_in_no_digest_of_a_run_without_it():
    kept = read_config(preset="private")
    assert config_digest(kept) == config_digest(
        msgspec.structs.replace(kept, privacy=msgspec.structs.replace(kept.privacy, buffers=""))
    )
    blt = {"privacy.mechanism": "blt"}
    with_buffers = read_config(preset="private", overrides={**blt, "privacy.buffers": "0.5:0.4"})
    assert config_digest(read_config(preset="private", overrides=blt)) != config_digest(with_buffers)


def test_buffers_that_a_person_wrote_stay_as_written():
    given = resolve_privacy(_blt(privacy__buffers="0.12345678:0.5"), 711)
    assert given.privacy.buffers == "0.12345678:0.5"


@pytest.mark.parametrize(
    "text",
    ["0.5", "0.5:0.2:0.1", "x:0.1", "1:0.1", "-0.1:0.2", "0.5:0", "0.5:-0.2", "0.5:0.6 0.4:0.4", "nan:0.1", "0.5:nan"],
)
def test_a_setting_that_is_no_blt_is_refused_by_name(text):
    with pytest.raises(ConfigError, match="privacy.buffers"):
        read_buffers(text)
    with pytest.raises(ConfigError, match="privacy.buffers"):
        _blt(privacy__buffers=text)


def test_a_ledger_says_which_buffers_it_charges_for(tmp_path):
    head = LedgerHead("blt", 3.0, 1.0, 711, 1e-4, 0.0, 2, 1, "c", buffers_setting(TWO))
    ledger = Ledger(tmp_path, head)
    ledger.charge(1, ["a"], "one")
    ledger.charge(3, ["a", "b"], "three")
    found, charges = read_ledger(tmp_path)
    assert found == head
    assert history_of(found, charges).event() == Ledger(tmp_path, head)._history.event()


def test_a_ledger_without_buffers_has_the_bytes_of_before(tmp_path):
    Ledger(tmp_path, LedgerHead("tree", 3.0, 1.0, 711, 1e-4, 0.0, 2, 1, "c"))
    assert b"buffers" not in (tmp_path / "privacy_ledger.jsonl").read_bytes()

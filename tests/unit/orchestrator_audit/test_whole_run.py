"""What an audit of whole trainings makes of mechanisms whose privacy is known."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.corpus import ClientId
from orchestrator.aggregator import CostLedger
from orchestrator.audit.whole_run import audit_whole_run, matched_scores, noise_covariance
from orchestrator.privacy.accounting import cost_of
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.correlated import unit_responses
from orchestrator.privacy.mechanism import noise_sequence
from orchestrator.privacy.participation import History
from orchestrator.privacy.sensitivity import square_root_coefficients
from orchestrator.rounds.cohort import everybody
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.lines import Round
from orchestrator.settings.files import read_config

NUM_ROUNDS = 48


def audit_config(**overrides):
    settings = {"client.weighting": "equal", "model.start_from_word_counts": False, "audit.canaries": 40}
    return read_config(overrides={**settings, **overrides})


def a_round(round_num, members, products):
    return Round(
        round_num=round_num, outcome="completed", selected=members, survivors=members, metrics={}, stage_s={},
        cost=CostLedger(), weights_sha256="0" * 64, canary_products=products, wall_s=1.0,
    )  # fmt: skip


def simulated(mechanism, seed, num_canaries=2000, noise_factor=1.0, left_out=()):
    """(the audit of a run of the mechanism, the epsilon that the ledger would state).

    What the canaries' directions see of the noise is independent of one to the next, as it is for random directions in
    a large model; the encoder and the model are left out.
    """
    config = audit_config(
        **{
            "privacy.mechanism": mechanism,
            "privacy.clip_norm": 1.0,
            "privacy.epsilon": 8.0,
            "privacy.delta": 1e-4,
            "rounds.cohort_size": 300,
            "rounds.count": NUM_ROUNDS,
            "audit.canaries": num_canaries,
            "seed": seed,
        }
    )
    names = canary_names(config.audit)
    people = (*names, *(ClientId(f"p{i}") for i in range(1000)))
    config = resolve_privacy(config, len(people))
    privacy, plan = config.privacy, everybody(config, people)
    included = np.random.default_rng([seed, 1]).random(num_canaries) < 0.5
    responses = np.eye(NUM_ROUNDS)
    if mechanism in ("tree", "matrix"):
        responses = unit_responses(lambda draw: noise_sequence(privacy, draw), NUM_ROUNDS)
    draws = np.random.default_rng([seed, 2]).normal(size=(responses.shape[1], num_canaries))
    noise = noise_factor * privacy.noise_multiplier * responses @ draws
    history = History(mechanism, privacy.noise_multiplier, privacy.separation, privacy.shape)
    reports = []
    for round_num in range(1, NUM_ROUNDS + 1):
        members = plan(round_num).cohort.members
        if round_num in left_out:
            reports.append(a_round(round_num, (), None))
            continue
        history.add(round_num, members)
        own = noise[round_num - 1] + included * np.isin(names, members)
        reports.append(a_round(round_num, members, tuple(own.tolist())))
    products = [r.canary_products for r in reports if r.canary_products]
    found = audit_whole_run(names, included, reports, np.sum(products, axis=0), privacy, privacy.delta)
    return found, cost_of(history.event())


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix"])
def test_the_estimate_finds_what_the_ledger_states(mechanism):
    """With 2,000 canaries the shift's relative standard error is 2.5 % or so; six of them are 1e-9."""
    found, cost = simulated(mechanism, seed=1)
    assert found.all_releases.shift == pytest.approx(np.sqrt(2 * cost.zcdp), rel=0.15)
    low, high = found.all_releases.epsilon_interval
    assert low < found.all_releases.epsilon < high
    assert found.final_model.epsilon < found.all_releases.epsilon
    assert len(found.scores_in) == found.included
    assert len(found.scores_out) == found.canaries - found.included


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix"])
def test_half_the_noise_is_found_out(mechanism):
    found, cost = simulated(mechanism, seed=2, noise_factor=0.5)
    assert found.all_releases.epsilon_interval[0] > 1.5 * cost.epsilon(1e-4)


@pytest.mark.parametrize("mechanism", ["tree", "matrix"])
def test_rounds_that_were_abandoned_are_left_out_and_the_others_keep_their_noise(mechanism):
    found, cost = simulated(mechanism, seed=3, left_out=(5, 6, 7, 30))
    assert found.rounds == NUM_ROUNDS - 4
    assert found.all_releases.shift <= 1.15 * np.sqrt(2 * cost.zcdp)
    assert found.all_releases.shift > 0.6 * np.sqrt(2 * cost.zcdp)


def test_the_bound_of_whole_runs_stays_below_the_ledger():
    """Each of 20 bounds exceeds what is true with probability 5 % at most, so 8 of them do with 3e-6 at most."""
    found = [simulated("matrix", seed, num_canaries=200) for seed in range(20)]
    assert sum(audit.one_run.epsilon > cost.epsilon(1e-4) for audit, cost in found) < 8
    assert max(audit.one_run.epsilon for audit, _ in found) > 1.0  # it does find something
    assert sum(audit.summed_scores.epsilon > cost.epsilon(1e-4) for audit, cost in found) < 8
    means = np.mean(
        [(a.one_run.epsilon, a.summed_scores.epsilon, a.summed_scores.epsilon_if_gaussian) for a, _ in found], 0
    )
    assert list(means) == sorted(means)


def test_canaries_that_send_nothing_are_not_found():
    """Noise 1e6 times as large: 1,000 guesses are coins; 6 standard deviations are below 1e-8."""
    found, _ = simulated("central", seed=4, noise_factor=1e6)
    assert abs(found.one_run.right - found.one_run.guesses / 2) < 6 * np.sqrt(found.one_run.guesses) / 2
    assert found.one_run.epsilon == 0.0
    assert found.summed_scores.epsilon < 0.5
    assert found.all_releases.epsilon_interval[0] == 0.0


def test_without_noise_there_is_no_privacy():
    found, _ = simulated("central", seed=5, noise_factor=1e-6)
    assert found.all_releases.epsilon is None
    assert found.one_run.right == found.one_run.guesses


def test_too_few_canaries_tell_nothing():
    config = audit_config()
    names, included = canary_names(config.audit), np.arange(40) < 20
    report = a_round(1, (names[0], names[30]), (0.0,) * 40)
    assert audit_whole_run(names, included, [report], [0.0] * 40, config.privacy, 1e-4) is None
    assert audit_whole_run(names, included, [], [0.0] * 40, config.privacy, 1e-4) is None


def test_the_filter_of_the_matrix_is_the_matrix():
    """C^-1 z has the covariance (C^T C)^-1: filtering by its inverse gives the sensitivity of the rows."""
    config = audit_config()
    privacy = msgspec.structs.replace(config.privacy, mechanism="matrix", bands=3)
    covariance = noise_covariance(privacy, [1, 2, 3, 4, 5, 6])
    matrix = sum(c * np.eye(6, k=-i) for i, c in enumerate(square_root_coefficients(3)))
    np.testing.assert_allclose(covariance, np.linalg.inv(matrix.T @ matrix), atol=1e-6)
    took_part = np.array([[1.0, 0, 0, 1, 0, 0]]).T
    _, expected = matched_scores(took_part, took_part, covariance)
    assert expected[0] == pytest.approx(np.linalg.norm(matrix @ took_part), rel=1e-6)

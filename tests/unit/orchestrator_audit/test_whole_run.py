"""Canary clients in whole trainings: what a round does with them, and what an audit makes of mechanisms it knows."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest

from models.batches import build_batches
from models.client_data import ClientData
from models.corpus import ClientId, PeopleSplit
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.aggregator import Cohort, CostLedger, DropStage, PlainSum
from orchestrator.audit.whole_run import audit_whole_run, matched_scores, noise_covariance
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError
from orchestrator.privacy.accounting import cost_of
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.correlated import unit_responses
from orchestrator.privacy.mechanism import noise_sequence
from orchestrator.privacy.participation import History
from orchestrator.privacy.sensitivity import square_root_coefficients
from orchestrator.rounds.cohort import everybody
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import Release, RoundFunctions, ServerState
from orchestrator.run.canary_clients import build_canaries, canary_names, participants
from orchestrator.run.lines import Round
from orchestrator.settings.files import read_config

SIZE = ModelSize(60, 8, 12)
NUM_ROUNDS = 48


def audit_config(**overrides):
    settings = {"client.weighting": "equal", "model.start_from_word_counts": False, "audit.canaries": 40}
    return read_config(overrides={**settings, **overrides})


class NoClock:
    def stage(self, name):
        return contextlib.nullcontext()


def train_clients(weights, learning_rate, seed, all_batches):
    for batches in all_batches:
        delta = tuple(np.full(shape, 1e-4, np.float32) for shape in SIZE.shapes)
        yield {"delta": delta, "num_examples": 1, "num_tokens": batches.num_tokens, "loss_sum": 1.0, "is_finite": True}


def one_round(canaries, members, clip_norm=0.5, drops=None, privacy=None, count_under_clip=False):
    functions = RoundFunctions(
        batches_of=lambda person, rng: build_batches([np.array([4, 5])], batch_size=2, time=3, rng=rng),
        train_clients=train_clients,
        weight_of=lambda update: 1.0,
        encoder=Encoder(clip_norm, 64, 1.0, SIZE.shapes, count_under_clip=count_under_clip),
        aggregator=PlainSum(),
        update_server=lambda state, weights, mean, rate: (state, tuple(w - m for w, m in zip(weights, mean))),
        canaries=canaries,
        privacy=privacy,
    )
    weights = tuple(np.zeros(shape, np.float32) for shape in SIZE.shapes)
    return run_round(
        ServerState(0, weights, 0),
        Cohort(1, tuple(map(ClientId, members)), 1),
        functions,
        seed=1,
        client_learning_rate=1.0,
        server_learning_rate=1.0,
        stopwatch=NoClock(),
        drops=drops or {},
    )


def test_who_is_in_is_in_the_sum_with_the_clip_norm_and_who_is_out_is_not():
    """Another direction's product is normal with a spread of 1/sqrt(1832) clip norms for each canary that is in."""
    canaries = build_canaries(audit_config(), SIZE)
    members = ["p0", *canaries.members, "p1"]
    after, report = one_round(canaries, members)
    products = np.array(report.canary_products)
    spread = np.sqrt(canaries.included.sum() / SIZE.num_weights)
    assert 5 < canaries.included.sum() < 35
    assert products[canaries.included].mean() == pytest.approx(1.0, abs=6 * spread / np.sqrt(5))
    assert abs(products[~canaries.included].mean()) < 6 * spread / np.sqrt(5)
    assert report.survivors == tuple(members)
    # The model moved by the mean of all: the audit of the model alone sees the same products.
    moved = np.array(canaries.inner_products(tuple(-w for w in after.weights)))
    np.testing.assert_allclose(moved * len(members) / 0.5, products, atol=1e-5)


def test_canaries_leave_no_trace_in_what_is_reported_of_people():
    canaries = build_canaries(audit_config(), SIZE)
    _, with_them = one_round(canaries, ["p0", *canaries.members, "p1"])
    _, without = one_round(None, ["p0", "p1"])
    changed = {name for name, value in without.metrics.items() if with_them.metrics[name] != value}
    assert changed == {"update_norm"}
    assert without.canary_products is None


def test_a_canary_that_drops_out_sends_nothing_and_nobody_gets_its_place():
    canaries = build_canaries(audit_config(), SIZE)
    name = canaries.members[int(np.flatnonzero(canaries.included)[0])]
    for stage, sent in ((DropStage.BEFORE_SHARES, False), (DropStage.BEFORE_UPLOAD, False), (DropStage.NONE, True)):
        _, report = one_round(canaries, ["p0", name, "p1"], drops={name: stage})
        assert report.survivors == (("p0", name, "p1") if sent else ("p0", "p1"))
        product = report.canary_products[canaries.members.index(name)]
        assert product == pytest.approx(float(sent), abs=0.02)  # two people of 1e-4 in 1832 coordinates: 0.004 a sigma


def test_a_canary_that_is_in_counts_as_clipped_and_one_that_is_out_does_not():
    """Under an adaptive clip a canary moves the count as far as a person can."""
    seen = []

    class Kept:
        def before_round(self, cohort):
            pass

        def client_noise(self, vector, encoder, round_num, client_id):
            seen.append(int(vector[encoder.dim]))
            return vector

        def release(self, total, encoder, cohort):
            return Release(encoder.mean(total[: encoder.dim].view(np.int32), len(cohort.members)), None, 1.0)

    canaries = build_canaries(audit_config(), SIZE)
    one_round(canaries, canaries.members, privacy=Kept(), count_under_clip=True)
    assert seen == [int(not included) for included in canaries.included]


def test_under_privacy_the_products_are_those_of_the_sum_over_the_whole_cohort():
    """What the mean divides by is the cohort, whoever survived; a product is in clip norms of the sum."""

    class Passing:
        def before_round(self, cohort):
            pass

        def client_noise(self, vector, encoder, round_num, client_id):
            return vector

        def release(self, total, encoder, cohort):
            return Release(encoder.mean(total[: encoder.dim].view(np.int32), len(cohort.members)), None, 1.0)

    canaries = build_canaries(audit_config(), SIZE)
    name = canaries.members[int(np.flatnonzero(canaries.included)[0])]
    drops = {"p0": DropStage.BEFORE_SHARES}
    for privacy in (None, Passing()):
        _, report = one_round(canaries, ["p0", name, "p1"], drops=drops, privacy=privacy)
        assert report.canary_products[canaries.members.index(name)] == pytest.approx(1.0, abs=0.02)


def test_the_same_seed_gives_the_same_canaries_and_another_seed_others():
    first, again, other = (build_canaries(audit_config(seed=seed), SIZE) for seed in (3, 3, 4))
    name = first.members[int(np.flatnonzero(first.included & other.included)[0])]
    np.testing.assert_array_equal(first.included, again.included)
    assert not np.array_equal(first.included, other.included)
    flat = [np.concatenate([t.ravel() for t in c.update(name, 1.0)]) for c in (first, again, other)]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert abs(flat[0] @ flat[2]) < 6 / np.sqrt(SIZE.num_weights)
    assert np.linalg.norm(flat[0]) > 1.0  # the encoder clips it


def test_no_canaries_by_default():
    assert build_canaries(read_config(), SIZE) is None
    assert canary_names(read_config()) == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"audit.canaries": 19}, r"audit\.canaries = 19: too few to measure anything"),
        ({"client.weighting": "tokens"}, r"client\.weighting = tokens: a canary has no text"),
        ({"model.start_from_word_counts": True}, r"model\.start_from_word_counts = True: what the training adds"),
        ({"fleet.policy": "sync"}, r"fleet\.policy = sync: a canary has no phone"),
    ],
)
def test_what_canaries_can_not_go_with_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        audit_config(**overrides)


def test_a_person_with_a_canary_s_name_is_refused():
    vocabulary = Vocabulary((*SPECIAL_WORDS, "word"))
    data = ClientData(
        vocabulary, PeopleSplit((), (), ()), {ClientId("canary/3"): (np.array([4], np.int32),)}, {}, {}, ()
    )
    assert participants(read_config(), data) == ("canary/3",)
    with pytest.raises(ConfigError, match="client canary/3 of the text has a canary's name"):
        participants(audit_config(), data)


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
    names = canary_names(config)
    people = (*names, *(ClientId(f"p{i}") for i in range(1000)))
    config = resolve_privacy(config, len(people))
    privacy, plan = config.privacy, everybody(config, people)
    included = np.random.default_rng([seed, 1]).random(num_canaries) < 0.5
    responses = np.eye(NUM_ROUNDS)
    if mechanism in ("tree", "matrix"):
        responses = unit_responses(lambda draw: noise_sequence(privacy, draw), NUM_ROUNDS)
    draws = np.random.default_rng([seed, 2]).normal(size=(responses.shape[1], num_canaries))
    noise = noise_factor * privacy.noise_multiplier * responses @ draws
    history = History(mechanism, privacy.noise_multiplier, privacy.separation, privacy.bands)
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


def test_canaries_that_send_nothing_are_not_found():
    """Noise 1e6 times as large: 1,000 guesses are coins; 6 standard deviations are below 1e-8."""
    found, _ = simulated("central", seed=4, noise_factor=1e6)
    assert abs(found.one_run.right - found.one_run.guesses / 2) < 6 * np.sqrt(found.one_run.guesses) / 2
    assert found.one_run.epsilon == 0.0
    assert found.all_releases.epsilon_interval[0] == 0.0


def test_without_noise_there_is_no_privacy():
    found, _ = simulated("central", seed=5, noise_factor=1e-6)
    assert found.all_releases.epsilon is None
    assert found.one_run.right == found.one_run.guesses


def test_too_few_canaries_tell_nothing():
    config = audit_config()
    names, included = canary_names(config), np.arange(40) < 20
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

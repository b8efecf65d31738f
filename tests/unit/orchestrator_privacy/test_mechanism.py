"""What each mechanism adds to a round's sum, and what the released mean tells. No TFF."""

from __future__ import annotations

import math

import numpy as np
import pytest
from private_round import DIM, PEOPLE, START, Size, charged, run, settings, train_clients

from orchestrator.aggregator import DropStage
from orchestrator.encoding import Encoder
from orchestrator.errors import RunFolderError
from orchestrator.privacy import noise
from orchestrator.privacy.ledger import Ledger, read_ledger
from orchestrator.privacy.mechanism import Mechanism, build_mechanism, client_stddev, server_stddev
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.build import build_encoder
from orchestrator.rounds.cohort import select_by_turns
from orchestrator.rounds.types import ServerState
from orchestrator.run.folder import RunFolder


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_run_charges_each_round_and_reports_its_epsilon(tmp_path, mechanism):
    config = settings(mechanism, aggregation__aggregator="secagg")
    _, reports = run(config, tmp_path, 6)
    head, charges = read_ledger(tmp_path)[0], charged(tmp_path)
    assert [charge.round_num for charge in charges] == [1, 2, 3, 4, 5, 6]
    assert all(set(charge.participants) == set(report.selected) for charge, report in zip(charges, reports))
    epsilons = [report.epsilon for report in reports]
    assert epsilons == sorted(epsilons)
    assert 0 < epsilons[0] < epsilons[-1]
    assert head.noise_commitment == noise.commitment(noise.read_seed(tmp_path))
    assert Ledger(tmp_path, head).epsilon() == epsilons[-1]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_noise_has_the_calibrated_variance(tmp_path, mechanism):
    """The first round's mean less the updates is noise: n = 6000 coordinates, within 5 standard errors of the variance:
    a false alarm in 2 million."""
    config = settings(mechanism, privacy__noise_multiplier=3.0, aggregation__aggregator="secagg")
    state, _ = run(config, tmp_path, 1)
    clipped = 1.0 / math.sqrt(DIM)  # the updates are longer than the clip norm
    own = -state.weights[0].astype(np.float64) - clipped
    expected = {"distributed": 3.0 * math.sqrt(5 / 3), "local": 3.0 * math.sqrt(5)}.get(mechanism, 3.0) / 5
    assert abs(np.var(own) / expected**2 - 1) < 5 * math.sqrt(2 / DIM)
    assert abs(own.mean()) < 5 * expected / math.sqrt(DIM)


def test_distributed_noise_is_enough_when_only_the_fewest_survive(tmp_path):
    config = settings("distributed", privacy__noise_multiplier=3.0, aggregation__aggregator="secagg")
    state, (report,) = run(config, tmp_path, 1, drops=DropStage.BEFORE_UPLOAD)
    assert len(report.survivors) == config.aggregation.min_survivors == 3
    own = -state.weights[0].astype(np.float64) - 3 / 5 / math.sqrt(DIM)  # the mean divides by the cohort
    assert abs(np.var(own) / (3.0 / 5) ** 2 - 1) < 5 * math.sqrt(2 / DIM)


def test_fewer_survivors_release_nothing_and_charge_nothing(tmp_path):
    config = settings("distributed", aggregation__aggregator="secagg", aggregation__min_survivors=4)
    state, (report,) = run(config, tmp_path, 1, drops=DropStage.BEFORE_UPLOAD)
    assert report.outcome == "abandoned"
    assert report.epsilon is None
    assert not state.weights[0].any()


@pytest.mark.parametrize("mechanism", ["distributed", "local"])
def test_sums_under_client_noise_stay_inside_the_modulus(mechanism):
    """All of the clip in one coordinate, and ten standard deviations."""
    for multiplier in (0.1, 1.0, 50.0):
        config = settings(mechanism, privacy__noise_multiplier=multiplier, aggregation__aggregator="secagg")
        encoder = build_encoder(config, Size)
        clip = encoder.clip_norm / encoder.step
        assert 5 * clip + 10 * client_stddev(config, encoder) * math.sqrt(5) < 2**31
        assert client_stddev(config, encoder) > noise.MIN_DISCRETE_STDDEV


def test_no_noise_and_a_huge_clip_is_federated_averaging(tmp_path):
    """A million times less noise than clip is none in float32's eyes: the mean is the mean of the updates."""
    config = settings(privacy__noise_multiplier=1e-9, privacy__clip_norm=1000.0)
    state, (report,) = run(config, tmp_path, 1)
    open_config = settings("none", privacy__noise_multiplier=0.0, privacy__clip_norm=0.0)
    averaged, _ = run(open_config, tmp_path, 1)
    np.testing.assert_allclose(-averaged.weights[0], 0.05, atol=1e-6)
    np.testing.assert_allclose(state.weights[0], averaged.weights[0], atol=5e-6)
    assert report.epsilon > 1e6


def test_sensitivity_covers_clipping_and_rounding():
    """Coordinates that all fall between two grid points round up together in the worst case; the bound holds it."""
    encoder = Encoder(clip_norm=1.0, num_clients=5, max_weight=1, shapes=((DIM,),), bits=8)
    rng = np.random.default_rng(0)
    longest = 0.0
    for _ in range(20):
        vector = encoder.encode((rng.standard_normal(DIM).astype(np.float32),), 1.0, rng)
        longest = max(longest, float(np.linalg.norm(vector[:DIM].view(np.int32).astype(float))))
    assert encoder.clip_norm / encoder.step < longest <= encoder.l2_bound  # rounding did add to the norm


@pytest.mark.parametrize("mechanism", ["central", "none"])
def test_the_adaptive_clip_finds_the_median_norm(tmp_path, mechanism):
    norm = 0.05 * math.sqrt(DIM)
    config = settings(
        mechanism,
        privacy__adaptive_clip=True,
        privacy__clip_norm=1.0,
        aggregation__clip_norm=1.0,
        privacy__noise_multiplier=0.1 if mechanism == "central" else 0.0,
        privacy__clip_learning_rate=0.5,
        rounds__count=60,
    )
    state, reports = run(config, tmp_path, 60)
    # Its noise is sealed, so no seed helps: 60 runs ended 0.11 apart in standard deviation, and this is five of them.
    assert state.clip_norm == pytest.approx(norm, rel=0.55)
    assert reports[0].metrics["clip_norm"] == 1.0
    assert reports[-1].metrics["clip_norm"] > 1.2
    # A resume goes on from the checkpoint's clip norm.
    folder = RunFolder(tmp_path / "folder")
    folder.path.mkdir()
    folder.save_checkpoint(ServerState(60, START, {"step": np.int32(1)}, None, state.clip_norm), 1)
    assert folder.load_checkpoint().clip_norm == state.clip_norm


def test_the_count_under_the_clip_takes_its_part_of_the_noise():
    adaptive = settings("central", privacy__adaptive_clip=True)
    fixed = settings("central")
    encoder = build_encoder(fixed, Size)
    assert server_stddev(adaptive.privacy, encoder) > server_stddev(fixed.privacy, encoder)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_who_holds_the_seed_can_replay_a_round(tmp_path, mechanism):
    config = settings(mechanism, aggregation__aggregator="secagg")
    before, _ = run(config, tmp_path, 3)
    after, _ = run(config, tmp_path, 1, before)
    replay = Mechanism(config, noise.read_seed(tmp_path), None)
    replayed, _ = run(config, tmp_path, 1, before, mechanism=replay)
    np.testing.assert_array_equal(replayed.weights[0], after.weights[0])
    assert len(charged(tmp_path)) == 4
    stranger = Mechanism(config, bytes(32), None)
    other, _ = run(config, tmp_path, 1, before, mechanism=stranger)
    assert (other.weights[0] != after.weights[0]).mean() > 0.99


def test_a_client_that_diverged_sends_zeros(tmp_path):
    def train(weights, learning_rate, seed, all_batches):
        for result in train_clients()(weights, learning_rate, seed, all_batches):
            yield {**result, "is_finite": False, "loss_sum": math.nan, "delta": (np.full(DIM, np.nan, np.float32),)}

    config = settings(privacy__noise_multiplier=1e-6)
    state, (report,) = run(config, tmp_path, 1, train=train)
    assert len(report.survivors) == 5  # leaving would tell of its data
    np.testing.assert_allclose(state.weights[0], 0.0, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_weights_under_noise_tell_not_of_who_diverged(tmp_path, monkeypatch, mechanism):
    totals = []
    release = Mechanism.release
    monkeypatch.setattr(
        Mechanism, "release", lambda self, total, *rest: totals.append(total) or release(self, total, *rest)
    )

    def train(weights, learning_rate, seed, all_batches):
        for number, result in enumerate(train_clients()(weights, learning_rate, seed, all_batches)):
            yield {**result, "is_finite": number != 2}

    for name, trained in (("all", train_clients()), ("one diverged", train)):
        (tmp_path / name).mkdir()
        run(settings(mechanism), tmp_path / name, 1, train=trained)
    assert totals[0][-1] == totals[1][-1] > 0  # no mechanism noises this slot


def test_turns_keep_their_separation():
    last = {}
    for round_num in range(1, 60):
        for member in select_by_turns(PEOPLE, round_num, 3, 5, seed=1).members:
            assert round_num - last.get(member, -5) >= 5
            last[member] = round_num
    assert len(last) == len(PEOPLE)


@pytest.mark.parametrize("lost", [("privacy_ledger.jsonl",), ("privacy_ledger.jsonl", "noise_seed")])
def test_released_rounds_without_a_ledger_are_refused(tmp_path, lost):
    """A new ledger would state an epsilon of 0; both files are private, so a copy by somebody else loses both."""
    config = settings("central", privacy__delta=1e-3)
    build_mechanism(config, tmp_path, 100)
    (tmp_path / "rounds.jsonl").write_text("{}\n")
    build_mechanism(config, tmp_path, 100)
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(RunFolderError, match="rounds were released: restore it or train anew"):
        build_mechanism(config, tmp_path, 100)
    assert not (tmp_path / "privacy_ledger.jsonl").exists()


def test_noise_does_not_follow_the_simulations_seed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = settings("central")
    one, _ = run(config, tmp_path / "a", 1)
    other, _ = run(config, tmp_path / "b", 1)
    assert (one.weights[0] != other.weights[0]).mean() > 0.99

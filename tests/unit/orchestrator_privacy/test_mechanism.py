"""Mechanisms in rounds: what they add, what they charge and when, what a crash and a resume do. No TFF."""

from __future__ import annotations

import contextlib
import math
import os
import stat

import numpy as np
import pytest

from models.batches import build_batches
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError, PrivacyStop, RunFolderError
from orchestrator.privacy import noise
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import LEDGER_FILE, Ledger, LedgerHead, read_ledger
from orchestrator.privacy.mechanism import Mechanism, build_mechanism, client_stddev, server_stddev
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.build import build_adaptive_clip, build_encoder
from orchestrator.rounds.cohort import everybody, select_by_turns
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig

DIM = 6000
PEOPLE = tuple(f"p{i}" for i in range(20))
START = (np.zeros(DIM, np.float32),)


class _Size:
    shapes = ((DIM,),)


class _NoClock:
    def stage(self, name):
        return contextlib.nullcontext()


def settings(mechanism="central", **changes):
    given = {
        "privacy.mechanism": mechanism,
        "privacy.clip_norm": 1.0,
        "privacy.noise_multiplier": 1.0,
        "client.weighting": "equal",
        "model.start_from_word_counts": False,
        "rounds.cohort_size": 5,
        "rounds.count": 40,
        "aggregation.min_survivors": 3,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return resolve_privacy(read_config(overrides=given), len(PEOPLE))


def train_clients(scale=0.05):
    """Everybody's update: `scale` in each coordinate of its own tenth, so its norm is scale * sqrt(DIM)."""

    def train(weights, learning_rate, seed, all_batches):
        for batches in all_batches:
            yield {
                "delta": (np.full(DIM, scale, np.float32),),
                "num_examples": batches.num_examples,
                "num_tokens": batches.num_tokens,
                "loss_sum": 1.0,
                "is_finite": True,
            }

    return train


def charged(directory):
    """The ledger's charges, without the lines that bind one to its sum."""
    return [charge for charge in read_ledger(directory)[1] if charge.participants]


def run(config, directory, rounds, state=None, train=None, drops=None, mechanism=None, encoder=None, aggregator=None):
    """(state, reports) after `rounds` more rounds; a new process if no mechanism is given."""
    if config.privacy.mechanism != "none" and mechanism is None:
        mechanism = build_mechanism(config, directory, len(PEOPLE))
    functions = RoundFunctions(
        batches_of=lambda person, rng: build_batches([np.array([5])], batch_size=1, time=3, rng=rng),
        train_clients=train or train_clients(),
        weight_of=lambda update: 1,
        encoder=encoder or build_encoder(config, _Size),
        aggregator=aggregator or PlainSum(),
        update_server=lambda state, weights, mean, rate: (state, tuple(w - m for w, m in zip(weights, mean))),
        privacy=mechanism,
        adaptive_clip=build_adaptive_clip(config),
    )
    plan, state, reports = everybody(config, PEOPLE), state or ServerState(0, START, 0), []
    for _ in range(rounds):
        cohort = plan(state.round_num + 1).cohort
        state, report = run_round(
            state,
            cohort,
            functions,
            seed=config.seed,
            client_learning_rate=1.0,
            server_learning_rate=1.0,
            stopwatch=_NoClock(),
            drops=dict.fromkeys(cohort.members[:2], drops) if drops else None,
        )
        reports.append(report)
    return state, reports


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


@pytest.mark.parametrize("mechanism", ["local", "distributed"])
def test_noise_of_clients_is_charged_before_there_is_a_sum_even_if_none_comes(tmp_path, mechanism):
    config = settings(mechanism, aggregation__aggregator="secagg", aggregation__min_survivors=4)
    run(config, tmp_path, 1, drops=DropStage.BEFORE_UPLOAD)
    assert len(charged(tmp_path)) == 1


def test_a_sum_under_noise_of_clients_is_on_the_ledger_when_it_is_opened(tmp_path):
    config = settings("distributed", aggregation__aggregator="secagg")
    mechanism = build_mechanism(config, tmp_path, len(PEOPLE))

    class Crashing:
        name = "secagg"

        def sum(self, vectors, cohort, drops):
            assert len(charged(tmp_path)) == 1
            raise KeyboardInterrupt  # whether the sum was opened nobody can tell

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, 1, mechanism=mechanism, aggregator=Crashing())
    # So it is charged again, once it is known it is bound, and from then on it is free.
    _, (first,) = run(config, tmp_path, 1)
    assert len(charged(tmp_path)) == 2
    _, (second,) = run(config, tmp_path, 1)
    assert len(charged(tmp_path)) == 2
    assert first.epsilon == second.epsilon
    head, charges = read_ledger(tmp_path)
    assert Ledger(tmp_path, head).epsilon() == first.epsilon
    assert [bool(charge.participants) for charge in charges] == [True, True, False]


def test_another_sum_under_noise_of_clients_is_charged(tmp_path):
    config = settings("distributed", aggregation__aggregator="secagg")
    _, (before,) = run(config, tmp_path, 1)
    _, (after,) = run(config, tmp_path, 1, train=train_clients(0.001))
    assert len(charged(tmp_path)) == 2
    assert after.epsilon > before.epsilon


@pytest.mark.parametrize("mechanism", ["distributed", "local"])
def test_sums_under_client_noise_stay_inside_the_modulus(mechanism):
    """All of the clip in one coordinate, and ten standard deviations."""
    for multiplier in (0.1, 1.0, 50.0):
        config = settings(mechanism, privacy__noise_multiplier=multiplier, aggregation__aggregator="secagg")
        encoder = build_encoder(config, _Size)
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


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix", "distributed"])
def test_a_resumed_run_repeats_its_releases_and_is_not_charged_again(tmp_path, mechanism):
    config = settings(mechanism, aggregation__aggregator="secagg")
    at_4, _ = run(config, tmp_path, 4)
    whole, reports = run(config, tmp_path, 5, at_4)
    again, repeated = run(config, tmp_path, 5, at_4)  # as after a kill: the checkpoint is of round 4
    np.testing.assert_array_equal(whole.weights[0], again.weights[0])
    assert len(charged(tmp_path)) == 9
    assert repeated[-1].epsilon == reports[-1].epsilon


def test_another_sum_in_a_resumed_round_gets_other_noise_and_is_charged(tmp_path):
    config = settings("central")
    first, (before,) = run(config, tmp_path, 1)
    other, (after,) = run(config, tmp_path, 1, train=train_clients(0.001))
    assert len(read_ledger(tmp_path)[1]) == 2
    assert after.epsilon > before.epsilon
    difference = (first.weights[0] - other.weights[0]).astype(float)
    assert np.std(difference) == pytest.approx(math.sqrt(2) / 5, rel=0.05)  # two independent noises


@pytest.mark.parametrize("mechanism", ["tree", "matrix"])
def test_an_abandoned_round_is_not_released_after_later_ones(tmp_path, mechanism):
    config = settings(mechanism, aggregation__min_survivors=4)
    at_1, _ = run(config, tmp_path, 1)
    at_2, (report,) = run(config, tmp_path, 1, at_1, drops=DropStage.BEFORE_UPLOAD)
    assert report.outcome == "abandoned"
    at_3, reports = run(config, tmp_path, 1, at_2)
    # A resume that abandons it again goes on; one that does not is stopped before its noise is made.
    run(config, tmp_path, 1, at_1, drops=DropStage.BEFORE_UPLOAD)
    again, _ = run(config, tmp_path, 1, at_2)
    np.testing.assert_array_equal(again.weights[0], at_3.weights[0])
    with pytest.raises(PrivacyStop, match="round 2 can't be released after round 3"):
        run(config, tmp_path, 1, at_1)
    assert len(charged(tmp_path)) == 2


@pytest.mark.parametrize("mechanism", ["tree", "matrix"])
def test_correlated_noise_is_never_put_on_a_second_sum(tmp_path, mechanism):
    config = settings(mechanism)
    run(config, tmp_path, 3)
    with pytest.raises(PrivacyStop, match="round 1 was released before with another sum"):
        run(config, tmp_path, 1, train=train_clients(0.001))


def test_a_crash_between_charge_and_release_leaves_the_charge(tmp_path, monkeypatch):
    config = settings("central")
    mechanism = build_mechanism(config, tmp_path, len(PEOPLE))

    def crash(*_):
        assert len(read_ledger(tmp_path)[1]) == 1, "noise is made only after the charge is on disk"
        raise KeyboardInterrupt

    monkeypatch.setattr(mechanism, "_noised", crash)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, 1, mechanism=mechanism)
    head, charges = read_ledger(tmp_path)
    assert len(charges) == 1
    assert Ledger(tmp_path, head).epsilon() > 0


@pytest.mark.parametrize("file", [LEDGER_FILE, noise.SEED_FILE])
def test_a_kill_at_the_start_leaves_a_folder_that_begins_anew(tmp_path, monkeypatch, file):
    """Wherever the kill comes, the file is whole or not there."""
    config = settings("central")

    def crash(*_):
        raise KeyboardInterrupt

    original = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda a, b: crash() if str(b).endswith(file) else original(a, b))
        with pytest.raises(KeyboardInterrupt):
            build_mechanism(config, tmp_path, len(PEOPLE))
    assert not (tmp_path / file).exists()
    run(config, tmp_path, 1)
    assert len(charged(tmp_path)) == 1


def test_a_line_cut_off_by_a_kill_is_dropped_and_gone_on_from(tmp_path):
    config = settings("central")
    run(config, tmp_path, 2)
    path = tmp_path / LEDGER_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # its write never returned, so nothing was released for it
    run(config, tmp_path, 2)
    assert path.read_bytes() == whole


def test_a_spent_budget_stops_before_the_round(tmp_path):
    config = settings("central", privacy__noise_multiplier=3.0, privacy__epsilon=1.8)
    state, trained = ServerState(0, START, 0), []

    def train(*arguments):
        trained.append(1)
        return train_clients()(*arguments)

    for _ in range(4):
        state, (report,) = run(config, tmp_path, 1, state, train)
    with pytest.raises(PrivacyStop, match="the budget is spent") as stop:
        run(config, tmp_path, 40, state, train)
    assert stop.value.exit_code == 3
    assert len(trained) == len(read_ledger(tmp_path)[1])
    head, _ = read_ledger(tmp_path)
    assert 0 < report.epsilon <= Ledger(tmp_path, head).epsilon() <= 1.8
    assert config.privacy.separation == 4  # so that everybody had a first turn for the same price


def test_a_resumed_round_with_another_sum_can_not_exceed_the_budget(tmp_path):
    """In a resume `check` lets the round pass, so the charge itself must hold the budget."""
    head = LedgerHead("central", 1.0, 1.0, 100, 1e-5, 5.0, 1, 1, "-")  # one release costs 4.38, two 6.89
    ledger, cohort = Ledger(tmp_path, head), Cohort(1, ("ann", "bob"))
    ledger.charge(1, cohort.members, "one sum")
    before = (tmp_path / LEDGER_FILE).read_bytes()
    again = Ledger(tmp_path, head)
    again.check(cohort)
    with pytest.raises(PrivacyStop, match=r"^round 1 would bring epsilon to 6\.\d+ .* the budget is spent"):
        again.charge(1, cohort.members, "another sum")
    assert (tmp_path / LEDGER_FILE).read_bytes() == before
    assert again.epsilon() == ledger.epsilon() == pytest.approx(4.377, abs=1e-3)


def test_a_charge_is_synced_to_disk_before_its_sum_gets_noise(tmp_path, monkeypatch):
    config, order, sync = settings("central"), [], os.fsync
    mechanism = build_mechanism(config, tmp_path, len(PEOPLE))
    noised = mechanism._noised

    def record(handle):
        sync(handle)
        if os.path.samestat(os.fstat(handle), os.stat(tmp_path / LEDGER_FILE)):
            order.append(("synced", len(read_ledger(tmp_path)[1])))

    def release(*arguments):
        order.append(("noised", len(read_ledger(tmp_path)[1])))
        return noised(*arguments)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(mechanism, "_noised", release)
    run(config, tmp_path, 2, mechanism=mechanism)
    assert order == [("synced", 1), ("noised", 1), ("synced", 2), ("noised", 2)]


def test_a_mechanism_that_nobody_knows_adds_no_noise_silently(tmp_path):
    with pytest.raises(ConfigError, match=r"privacy\.mechanism = 'centrale': must be none, central, tree, matrix"):
        settings("centrale")
    head = LedgerHead("centrale", 1.0, 1.0, 100, 1e-5, 5.0, 1, 1, "-")
    with pytest.raises(ConfigError, match=r"privacy\.mechanism = 'centrale': must be "):
        Ledger(tmp_path, head)


def test_a_budget_alone_sets_a_noise_that_lasts_for_all_rounds(tmp_path):
    for mechanism in MECHANISMS:
        config = settings(
            mechanism,
            privacy__noise_multiplier=0.0,
            privacy__epsilon=5.0,
            rounds__count=12,
            aggregation__aggregator="secagg",
        )
        _, reports = run(config, tmp_path / mechanism if (tmp_path / mechanism).mkdir() is None else None, 12)
        assert reports[-1].epsilon <= 5.0
        assert resolve_privacy(config, len(PEOPLE)) == config


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
    encoder = build_encoder(fixed, _Size)
    assert server_stddev(adaptive.privacy, encoder) > server_stddev(fixed.privacy, encoder)


@pytest.mark.parametrize("mechanism", [name for name, kind in MECHANISMS.items() if not kind.traits.from_clients])
def test_the_last_bits_of_a_release_tell_nothing_of_what_was_noised(tmp_path, mechanism):
    """The attack: a double that starts from 0 can have bits that one which starts from 1 can't have.

    On a grid both can be any of its points: the released count is whole, and the mean is whole in steps of the grid.

    Source: Mironov 2012, "On Significance of the Least Significant Bits for Differential Privacy".
    """
    config = settings(
        mechanism, privacy__adaptive_clip=mechanism == "central", privacy__noise_multiplier=1.7, privacy__clip_norm=1.0
    )
    released = Mechanism.release
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Mechanism,
            "release",
            lambda self, total, encoder, cohort: (
                seen.append((released(self, total, encoder, cohort), encoder)) or seen[-1][0]
            ),
        )
        run(config, tmp_path, 12)
    for release, encoder in seen:
        if release.share_under_clip is not None:
            count = release.share_under_clip * config.rounds.cohort_size
            assert count == pytest.approx(round(count), abs=1e-12)
        steps = np.rint(release.mean_delta[0].astype(np.float64) * 5 / encoder.step)
        np.testing.assert_array_equal(release.mean_delta[0], encoder.mean(steps, 5)[0])
    assert len(seen) == 12


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


def test_a_cohort_that_comes_too_soon_is_refused(tmp_path):
    config = settings("tree")
    mechanism = build_mechanism(config, tmp_path, len(PEOPLE))
    mechanism._ledger.charge(1, PEOPLE[:5], "x")
    with pytest.raises(PrivacyStop, match=r"p4 took part in round 1 already"):
        mechanism.before_round(Cohort(3, (*PEOPLE[6:10], "p4")))
    mechanism.before_round(Cohort(5, PEOPLE[:5]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy__clip_norm": 0.0}, "privacy.clip_norm = 0.0: noise without clipping"),
        ({"client__weighting": "tokens"}, "client.weighting = tokens: weights that depend on example counts"),
        ({"client__weighting": "examples"}, "weights that depend on example counts"),
        ({"privacy__noise_multiplier": 0.0}, "neither noise nor a budget"),
        ({"model__start_from_word_counts": True}, "without any noise"),
        ({"privacy__delta": 0.06}, "privacy.delta = 0.06: with 20 training people it may be at most 5.00e-02"),
        ({"privacy__separation": 5}, "privacy.separation = 5: 20 people in cohorts of 5 can keep 4 at most"),
        ({"mechanism": "matrix", "privacy__bands": 5}, "privacy.bands = 5, privacy.separation = 4"),
        ({"mechanism": "distributed", "aggregation__aggregator": "plain"}, "under a part of the noise only"),
        ({"mechanism": "tree", "privacy__adaptive_clip": True}, "made for one clip norm"),
        ({"mechanism": "none"}, "no mechanism adds noise"),
        ({"privacy__adaptive_clip": True, "privacy__count_noise": 0.4}, "the count alone would cost more"),
        ({"mechanism": "tree", "fleet__policy": "sync"}, "cohorts that the server draws"),
    ],
)
def test_contradictions_are_refused_with_one_line(changes, says):
    with pytest.raises(ConfigError) as error:
        settings(**changes)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_mechanism_nothing_is_resolved():
    config = RunConfig()
    assert resolve_privacy(config, 800) is config


def test_the_seed_is_sealed(tmp_path):
    seed = noise.create_seed(tmp_path)
    path = tmp_path / noise.SEED_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert noise.read_seed(tmp_path) == seed
    with pytest.raises(RunFolderError, match="already"):
        noise.create_seed(tmp_path)
    os.chmod(path, 0o644)
    with pytest.raises(RunFolderError, match="chmod 600"):
        noise.read_seed(tmp_path)
    os.chmod(path, 0o600)
    path.write_text("ff\n")
    with pytest.raises(RunFolderError, match="1 bytes"):
        noise.read_seed(tmp_path)


def test_a_lost_seed_or_ledger_is_not_replaced(tmp_path):
    config = settings("central")
    run(config, tmp_path, 1)
    (tmp_path / noise.SEED_FILE).rename(tmp_path / "kept")
    with pytest.raises(RunFolderError, match="missing or damaged"):
        build_mechanism(config, tmp_path, len(PEOPLE))
    (tmp_path / "kept").rename(tmp_path / noise.SEED_FILE)
    changed = settings("central", privacy__noise_multiplier=2.0)
    with pytest.raises(RunFolderError, match="other settings"):
        build_mechanism(changed, tmp_path, len(PEOPLE))
    (tmp_path / LEDGER_FILE).unlink()
    (tmp_path / "rounds.jsonl").write_text("{}\n")
    with pytest.raises(RunFolderError, match="ledger"):
        build_mechanism(config, tmp_path, len(PEOPLE))


def test_an_unknown_event_in_the_ledger_is_refused(tmp_path):
    config = settings("central")
    run(config, tmp_path, 1)
    path = tmp_path / LEDGER_FILE
    path.write_text(path.read_text().replace("SelfComposedDpEvent", "ShuffledDpEvent"))
    with pytest.raises(PrivacyStop, match="ShuffledDpEvent"):
        read_ledger(tmp_path)


def test_noise_does_not_follow_the_simulations_seed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = settings("central")
    one, _ = run(config, tmp_path / "a", 1)
    other, _ = run(config, tmp_path / "b", 1)
    assert (one.weights[0] != other.weights[0]).mean() > 0.99


def test_normal_numbers_are_normal():
    """n = 400,000: Kolmogorov-Smirnov, and two correlations within 5 standard errors; false alarms: 2 in a million."""
    from scipy import stats

    numbers = noise.normal(bytes(range(32)), "test", 400_000)
    assert stats.kstest(numbers, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / math.sqrt(400_000)
    other = noise.normal(bytes(range(32)), "other", 400_000)
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 5 / math.sqrt(400_000)


@pytest.mark.parametrize("stddev", [16.0, 40.0])
def test_discrete_normal_numbers_have_their_probabilities(stddev):
    """n = 400,000, chi-square over the values with 20 expected or more; a false alarm in a million."""
    from scipy import stats

    numbers = noise.discrete_normal(bytes(range(32)), "test", 400_000, stddev)
    support = np.arange(-int(12 * stddev), int(12 * stddev) + 1)
    probabilities = np.exp(-np.square(support) / (2 * stddev**2))
    probabilities /= probabilities.sum()
    counts = np.array([(numbers == k).sum() for k in support])
    often = probabilities * len(numbers) >= 20
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probabilities[often], probabilities[~often].sum()) * len(numbers)
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_too_little_discrete_noise_is_refused():
    with pytest.raises(ValueError, match="stddev must be at least"):
        noise.discrete_normal(bytes(32), "test", 10, 3.0)


def test_tests_may_hand_in_their_own_generator():
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(
        noise.normal(bytes(32), "x", 5, insecure_rng=rng), np.random.default_rng(3).standard_normal(5)
    )

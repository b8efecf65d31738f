"""What a round charges to the ledger and when, and what a crash, a resume and a spent budget do. No TFF."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from private_round import PEOPLE, START, charged, run, settings, train_clients

from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.privacy import noise
from orchestrator.privacy.ledger import LEDGER_FILE, Ledger, LedgerHead, read_ledger
from orchestrator.privacy.mechanism import build_mechanism
from orchestrator.rounds.types import ServerState


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


def test_a_cohort_that_comes_too_soon_is_refused(tmp_path):
    config = settings("tree")
    mechanism = build_mechanism(config, tmp_path, len(PEOPLE))
    mechanism._ledger.charge(1, PEOPLE[:5], "x")
    with pytest.raises(PrivacyStop, match=r"p4 took part in round 1 already"):
        mechanism.before_round(Cohort(3, (*PEOPLE[6:10], "p4")))
    mechanism.before_round(Cohort(5, PEOPLE[:5]))


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

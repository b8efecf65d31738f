"""How a run forgets a person: from which state, with which settings, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil

import msgspec
import numpy as np
import pytest

from orchestrator.aggregator import CostLedger
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.evaluation.ngram_release import release_ngram
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.ledger import Ledger, LedgerHead, read_ledger
from orchestrator.rounds.cohort import everybody, without
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run import forgetting, record
from orchestrator.run.canary_clients import drawn_people
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.record import open_record
from orchestrator.run.saved import read_run
from orchestrator.run.spent import Guarantee, spent_in_all, spent_together
from orchestrator.run.start_origin import Start, StartText
from orchestrator.settings.files import read_config

PEOPLE = [f"p{number:02}" for number in range(20)]
ROUNDS = 6


def state(round_num):
    return ServerState(round_num, (np.full((3, 2), round_num, np.float32),), {"step": np.int32(round_num)})


def write_text(path, people):
    lines = (f'{{"client_id": "{name}", "text": "see you {name} word{n}"}}\n' for name in people for n in range(12))
    path.write_text("".join(lines))
    return path


def write_run(tmp_path, name="run", num_rounds=ROUNDS, recorded=True, **overrides):
    """Rounds of a run without a training: cohorts as drawn, weights that tell the round, a checkpoint every two."""
    text = write_text(tmp_path / "people.jsonl", PEOPLE)
    settings = {"data.source": str(text), "rounds.cohort_size": 4, "rounds.count": ROUNDS, "runtime.workers": "1"}
    config = read_config(overrides={**settings, "model.start_from_word_counts": False, **overrides})
    corpus, data = load_client_data(config)
    folder = RunFolder(tmp_path / name)
    identity = build_identity(config, corpus, data.vocabulary, 6)
    folder.create(config, data.vocabulary, identity)
    recorder = open_record(folder.path, identity, "", state(0)) if recorded else None
    plan = everybody(config, drawn_people(config, data))
    for number in range(1, num_rounds + 1):
        members, digest = plan(number).cohort.members, weights_digest(state(number).model)
        report = RoundReport(number, "completed", members, members, {}, {}, CostLedger(), digest)
        if recorder is not None:
            recorder.append(report, sync=False)
        folder.append_round(report, wall_s=0.5)
        if number % 2 == 0:
            folder.save_checkpoint(state(number), keep=3)
    return read_run(RunFolder(folder.path))


def first_round(run, person):
    return min((line.round_num for line in run.rounds if person in line.selected), default=None)


def someone(run, wanted):
    """A training person whose first round is one that is wanted."""
    return next(person for person in run.text.data.train if wanted(first_round(run, person)))


def test_the_training_goes_on_from_the_newest_checkpoint_before_the_person_s_first_round(tmp_path):
    run = write_run(tmp_path)
    seen = {}
    for person in run.text.data.train:
        plan = forgetting.plan_forgetting(run, person, None)
        first = first_round(run, person)
        assert plan.rounds == tuple(line.round_num for line in run.rounds if person in line.selected)
        assert plan.from_round == (6 if first is None else (first - 1) // 2 * 2)  # checkpoints: 2, 4, 6
        seen[plan.from_round] = person
    assert {0, 2} < set(seen)


@pytest.mark.parametrize("role", ["dev", "test"])
def test_of_who_never_trained_no_round_is_computed_anew(tmp_path, role):
    run = write_run(tmp_path, **{"model.start_from_word_counts": True})
    trained = forgetting.plan_forgetting(run, someone(run, lambda first: first == 5), None)
    assert (trained.from_round, trained.in_first_weights) == (0, True)  # their words were counted
    person = next(iter(getattr(run.text.data, role)))
    plan = forgetting.plan_forgetting(run, person, None)
    assert (plan.rounds, plan.in_first_weights, plan.from_round) == ((), False, ROUNDS)


def test_the_new_run_draws_the_same_cohorts_less_the_person_and_keeps_what_came_before(tmp_path):
    run = write_run(tmp_path)
    person = someone(run, lambda first: first in (3, 4))
    plan = forgetting.plan_forgetting(run, person, keep=9)
    target = RunFolder(tmp_path / "new")
    text = forgetting.begin_forgotten(run, plan, target)
    new = read_run(RunFolder(target.path))

    assert person not in text.corpus.clients
    assert new.config.rounds == msgspec.structs.replace(run.config.rounds, keep_checkpoints=9)
    assert (new.newest.round_num, new.vocabulary) == (2, run.vocabulary)
    assert [line.round_num for line in new.rounds] == [1, 2]
    assert new.record == run.record[:3]
    assert record.read_salt(new.path) == record.read_salt(run.path)
    assert {path.name: path.stat().st_mode & 0o777 for path in new.path.iterdir()}["rounds.jsonl"] == 0o600

    drawn = drawn_people(new.config, text.data)
    cohorts = without(everybody(new.config, drawn), tuple(text.data.gone.values()))
    for line in run.rounds:
        assert cohorts(line.round_num).cohort.members == tuple(p for p in line.selected if p != person)


def test_drop_outs_stay_those_that_were_drawn(tmp_path):
    rates = {"faults.before_upload": 0.4}
    run = write_run(tmp_path, **rates)
    person = run.rounds[0].selected[1]
    text = forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, person, None), RunFolder(tmp_path / "new"))
    before = everybody(run.config, drawn_people(run.config, run.text.data))
    after = without(everybody(run.config, drawn_people(run.config, text.data)), tuple(text.data.gone.values()))
    for number in range(1, 40):
        assert after(number).drops == {who: s for who, s in before(number).drops.items() if who != person}
    assert any(before(number).drops for number in range(1, 40))


def test_a_second_call_goes_on_and_another_person_s_run_is_not_overwritten(tmp_path):
    run = write_run(tmp_path)
    one, other = run.rounds[0].selected[:2]
    folder = RunFolder(tmp_path / "new")
    forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, one, None), folder)
    first = folder.identity()
    forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, one, None), folder)
    assert folder.identity() == first
    assert record.read_salt(folder.path) == record.read_salt(run.path)  # though the training begins at the start
    assert (folder.path / "record_salt").stat().st_mode & 0o077 == 0
    with pytest.raises(RunFolderError, match="already holds another run: name another folder with --out"):
        forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, other, None), folder)


def test_what_a_kill_left_beside_the_folder_is_no_hindrance(tmp_path):
    run = write_run(tmp_path)
    left = tmp_path / ".new.partial"
    left.mkdir()
    (left / "config.toml").write_text("seed = ")
    forgetting.begin_forgotten(
        run, forgetting.plan_forgetting(run, run.rounds[0].selected[0], None), RunFolder(tmp_path / "new")
    )
    assert not left.exists()


def test_two_people_are_forgotten_one_after_the_other_and_leave_the_text(tmp_path):
    run = write_run(tmp_path)
    one, other = someone(run, lambda first: first is None), someone(run, lambda first: first == 5)
    forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, one, None), RunFolder(tmp_path / "a"))
    write_text(tmp_path / "people.jsonl", [person for person in PEOPLE if person != one])
    second = read_run(RunFolder(tmp_path / "a"))
    assert [line.round_num for line in second.rounds] == list(range(1, ROUNDS + 1))
    forgetting.begin_forgotten(second, forgetting.plan_forgetting(second, other, None), RunFolder(tmp_path / "b"))
    write_text(tmp_path / "people.jsonl", [person for person in PEOPLE if person not in (one, other)])
    third = read_run(RunFolder(tmp_path / "b"))
    assert set(third.text.data.split.train) == set(run.text.data.split.train) - {one, other}
    assert third.text.data.dev.keys() == run.text.data.dev.keys()
    assert third.newest.round_num == 4
    with pytest.raises(RunFolderError, match=f"client {one} is nobody of"):
        forgetting.plan_forgetting(second, one, None)


def refusal(run, person=None):
    with pytest.raises(RunFolderError) as caught:
        forgetting.plan_forgetting(run, person or run.rounds[0].selected[0], None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_computed_again_is_refused_in_one_line(tmp_path):
    run = write_run(tmp_path)
    assert "client nobody is nobody of" in refusal(run, "nobody")
    assert "has no record of its rounds" in refusal(write_run(tmp_path, "unrecorded", recorded=False))
    assert "ended after round 4 of 6: finish it" in refusal(write_run(tmp_path, "unfinished", 4))
    fleet = write_run(tmp_path, "fleet", **{"fleet.policy": "sync"})
    assert "under a simulated fleet" in refusal(fleet)
    shutil.copytree(run.path, tmp_path / "devices")
    lines = (run.path / "rounds.jsonl").read_text().replace('"wall_s":0.5', '"wall_s":0.5,"clients":"device files"', 1)
    (tmp_path / "devices" / "rounds.jsonl").write_text(lines)
    assert "round 1 of" in refusal(read_run(RunFolder(tmp_path / "devices")))
    started = Start("run", "before", 9, "a", "b", 5, 5, (StartText("chats", "6"),))
    identity = msgspec.structs.replace(run.identity, start=started)
    assert "began with a model that was trained on what people typed (before)" in refusal(
        dataclasses.replace(run, identity=identity)
    )


def test_a_start_on_the_run_s_own_text_is_refused_whatever_its_licence(tmp_path):
    run = write_run(tmp_path)
    public = Start("public text", "mine", 0, "a", "b", 5, 5, (StartText("b", "8", licence="CC0"),))
    own = msgspec.structs.replace(public, texts=(StartText("b", run.identity.corpus_sha256, licence="CC0"),))
    began = {start: dataclasses.replace(run, identity=msgspec.structs.replace(run.identity, start=start))
             for start in (public, own)}  # fmt: skip
    assert forgetting.plan_forgetting(began[public], run.rounds[0].selected[0], None).from_round == 0
    assert "trained on what people typed (mine)" in refusal(began[own])


PRIVATE = {
    "privacy.mechanism": "central", "privacy.noise_multiplier": 1.0, "privacy.delta": 0.01, "privacy.clip_norm": 1.0,
    "client.weighting": "equal", "aggregation.aggregator": "plain", "data.min_people": 1,
}  # fmt: skip


def write_private_run(tmp_path):
    """A run whose model was charged for one round of four people, at noise 1, with an n-gram of its own."""
    run = write_run(tmp_path, **PRIVATE)
    Ledger(run.path, LedgerHead("central", 1.0, 1.0, 16, 0.01, 0.0, 1, 1, "a")).charge(1, run.rounds[0].selected)
    return run, release_ngram(run, 3.0, 20, lambda text: None)


def test_a_private_run_without_a_ledger_is_refused(tmp_path):
    run, _ = write_private_run(tmp_path)
    for lost in (run.path / "private_ngram", run.path):
        (lost / "privacy_ledger.jsonl").unlink()
        assert "privacy_ledger.jsonl" in refusal(run)


def test_what_the_n_gram_of_the_run_before_has_cost_the_others_stays_spent(tmp_path):
    run, released = write_private_run(tmp_path)
    person, target = run.rounds[0].selected[0], RunFolder(tmp_path / "new")
    forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, person, None), target)
    Ledger(target.path, LedgerHead("central", 1.0, 1.0, 15, 0.01, 0.0, 1, 1, "b")).charge(1, run.rounds[0].selected[1:])
    new = read_run(RunFolder(target.path))
    _, (charge,) = read_ledger(new.path / "private_ngram")
    assert set(charge.participants) == set(run.text.data.train) - {person}
    assert [path.name for path in (new.path / "private_ngram").iterdir()] == ["privacy_ledger.jsonl"]
    one, ngram = 0.5, 0.5 / released.noise_multiplier**2  # zCDP of a Gaussian release at noise m: 1 / (2 m^2)
    for spent, zcdp in (
        (spent_together(run), one + ngram),
        (spent_in_all(new), one + ngram),
        (spent_together(run, new), 2 * one + ngram),
    ):
        assert spent == Guarantee(pytest.approx(Cost(zcdp).epsilon(0.01)), 0.01)
    for epsilon in (3.0, 1.0):
        with pytest.raises(PrivacyStop, match="charged for the n-gram of the run that this one replaces"):
            release_ngram(new, epsilon, 20, lambda text: None)


def test_two_n_grams_of_two_runs_both_count(tmp_path):
    """The run before released its own after the new run had begun."""
    run = write_run(tmp_path, **PRIVATE)
    Ledger(run.path, LedgerHead("central", 1.0, 1.0, 16, 0.01, 0.0, 1, 1, "a"))
    target = RunFolder(tmp_path / "new")
    forgetting.begin_forgotten(run, forgetting.plan_forgetting(run, run.rounds[0].selected[0], None), target)
    new = read_run(RunFolder(target.path))
    Ledger(new.path, LedgerHead("central", 1.0, 1.0, 15, 0.01, 0.0, 1, 1, "b"))
    zcdp = sum(0.5 / release_ngram(own, 3.0, 20, lambda text: None).noise_multiplier ** 2 for own in (run, new))
    assert spent_together(run, new).epsilon == pytest.approx(Cost(zcdp).epsilon(0.01))

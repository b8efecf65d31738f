"""What fedkeys privacy says of a run: from its ledger, with figures that another accountant gives too."""

from __future__ import annotations

import json
import re

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from dp_accounting import GaussianDpEvent, pld
from reported_run import score, write_evaluation

from models.vocabulary import build_vocabulary
from orchestrator.aggregator import CostLedger
from orchestrator.cli.commands import cli
from orchestrator.evaluation import privacy
from orchestrator.evaluation.privacy import run_privacy, running_noise
from orchestrator.evaluation.privacy_results import measured_run
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import LEDGER_FILE, Ledger, LedgerHead, epsilon_spent, read_ledger
from orchestrator.report.comparison import comparison
from orchestrator.report.headline import headline
from orchestrator.report.privacy import privacy as privacy_section
from orchestrator.report.view import view_run
from orchestrator.rounds.cohort import everybody
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import RunIdentity, digest_of_what_matters
from orchestrator.run.noisy_counts import NgramRelease
from orchestrator.run.results import write_figures
from orchestrator.run.saved import read_run
from orchestrator.run.spent import Guarantee
from orchestrator.run.start_origin import Start, StartText
from orchestrator.settings.files import read_config

PEOPLE = tuple(f"p{i}" for i in range(40))


def build_run(path, mechanism="central", **changes):
    """A run's folder with eight rounds, as training leaves it; no model."""
    private = {
        "privacy.mechanism": mechanism,
        "privacy.clip_norm": 1.0,
        "privacy.noise_multiplier": 2.0,
        "client.weighting": "equal",
        "model.start_from_word_counts": False,
    }
    given = {"rounds.count": 8, "rounds.cohort_size": 10, "aggregation.min_survivors": 5, **changes}
    config = resolve_privacy(read_config(overrides={**given, **(private if mechanism != "none" else {})}), len(PEOPLE))
    folder = RunFolder(path)
    identity = RunIdentity(1, digest_of_what_matters(config), "test", "-", "-", 3, {})
    folder.create(config, build_vocabulary([["a b a"]], 6).vocabulary, identity)
    privacy, ledger = config.privacy, None
    if mechanism != "none":
        head = LedgerHead(
            mechanism, privacy.noise_multiplier, 1.0, len(PEOPLE), privacy.delta, privacy.epsilon,
            privacy.separation, privacy.bands, "-", privacy.buffers,
        )  # fmt: skip
        ledger = Ledger(path, head)
    plan = everybody(config, PEOPLE)
    for round_num in range(1, 9):
        members = plan(round_num).cohort.members
        if ledger:
            ledger.charge(round_num, members, str(round_num))
        metrics = {"dev_top1": round_num / 100} if round_num % 4 == 0 else {}
        epsilon = ledger.epsilon() if ledger else None
        report = RoundReport(
            round_num, "completed", members, members, metrics, {}, CostLedger(), "0" * 64, epsilon=epsilon
        )
        folder.append_round(report, wall_s=1.0)
    return folder


def test_the_command_prints_what_another_accountant_finds(tmp_path):
    build_run(tmp_path / "run")
    open_run = build_run(tmp_path / "open", "none")
    command = ["privacy", "--run", str(tmp_path / "run"), "--compare", str(open_run.path), "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout.splitlines()[-1])  # older clicks mix standard error in
    # 40 people in cohorts of 10: 4 turns, so everybody took part in 2 of the 8 rounds.
    assert printed["mechanism"] == "central"
    assert printed["most_participations"] == 2
    assert printed["zcdp"] == pytest.approx(2 / (2 * 2.0**2))
    oracle = pld.PLDAccountant().compose(GaussianDpEvent(2.0), 2)
    for delta, epsilon in printed["epsilon"].items():
        # The key has three digits of the delta.
        assert epsilon == pytest.approx(oracle.get_epsilon(float(delta)), rel=2e-3)
    assert any("No amplification" in text for text in printed["assumptions"])
    assert [cost["mechanism"] for cost in printed["mechanisms"]] == [
        "central",
        "tree",
        "matrix",
        "blt",
        "distributed",
        "local",
    ]
    assert [(run["mechanism"], run["dev_top1"]) for run in printed["measured"]] == [("central", 0.08), ("none", 0.08)]
    assert (tmp_path / "run" / "privacy.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_noise_has_no_epsilon_but_prices(tmp_path):
    build_run(tmp_path / "run", "none")
    result = CliRunner().invoke(cli, ["privacy", "--run", str(tmp_path / "run"), "--json"])
    printed = json.loads(result.stdout.splitlines()[-1])  # older clicks mix standard error in
    assert list(printed["epsilon"].values()) == [None]
    assert printed["zcdp"] is None
    assert "no epsilon holds" in printed["assumptions"][0]
    assert all(cost["noise_multiplier"] > 0 for cost in printed["mechanisms"])


@pytest.mark.parametrize("mechanism", ["central", "tree", "matrix", "blt", "distributed", "local"])
def test_the_runs_own_row_is_what_its_ledger_will_say_in_the_end(tmp_path, mechanism):
    folder = build_run(tmp_path / "run", mechanism, **{"aggregation.aggregator": "secagg"})
    result = run_privacy(read_run(folder))
    own = next(cost for cost in result.costs if cost.name == mechanism)
    assert own.epsilon == pytest.approx(result.epsilon[result.delta])  # all rounds are charged
    assert own.noise_multiplier == pytest.approx(2.0, rel=1e-6)
    text = CliRunner().invoke(cli, ["privacy", "--run", str(folder.path)]).output
    assert mechanism in text


def test_the_running_noise_of_each_mechanism(tmp_path):
    config = build_run(tmp_path / "run").config()
    np.testing.assert_allclose(running_noise(config, config.privacy)[[0, 3]], [0.1, 0.2])
    local = read_config(tmp_path / "run" / "config.toml", overrides={"privacy.mechanism": "local"})
    np.testing.assert_allclose(running_noise(local, local.privacy)[0], 0.1 * np.sqrt(10))
    overrides = {"privacy.mechanism": "distributed", "aggregation.aggregator": "secagg"}
    distributed = read_config(tmp_path / "run" / "config.toml", overrides=overrides)
    np.testing.assert_allclose(running_noise(distributed, distributed.privacy)[0], 0.1 * np.sqrt(10 / 5))


def test_looking_changes_nothing_even_while_a_line_is_being_written(tmp_path):
    folder = build_run(tmp_path / "run")
    path = folder.path / LEDGER_FILE
    with open(path, "ab") as file:
        file.write(b'{"round_num":9,"partic')
    before = path.read_bytes()
    assert run_privacy(read_run(folder)).rounds_charged == 8
    assert path.read_bytes() == before


def test_a_changed_ledger_is_noticed(tmp_path):
    folder = build_run(tmp_path / "run")
    path = folder.path / LEDGER_FILE
    path.write_text(path.read_text().replace('"noise_multiplier":2.0}}', '"noise_multiplier":9.0}}'))
    result = CliRunner().invoke(cli, ["privacy", "--run", str(folder.path)], standalone_mode=False)
    assert "does not follow from those before" in str(result.exception)


def test_what_epsilon_does_not_cover_and_how_near_delta_is_are_said():
    # 707 people: 707 ** -1.1 is below 1 / 707 by 707 ** 0.1 = 1.93.
    assert "factor of 1.9:" in privacy._about_delta(707**-1.1, 707)
    covered = " ".join(privacy.NOT_COVERED)
    assert "without noise: epsilon does not cover them. A model card leaves them out" in covered
    assert "the sum of both" in covered
    assert "its model and word list are counted, and no n-gram that it released" in covered


def test_accuracy_stands_beside_the_epsilon_of_the_ledger_abandoned_rounds_included(tmp_path):
    folder = build_run(tmp_path / "run")
    whole = epsilon_spent(folder.path)
    # A ninth round was charged, and abandoned: it left no line with an epsilon.
    head, _ = read_ledger(folder.path)
    ledger = Ledger(folder.path, head)
    ledger.charge(9, PEOPLE[:10], "9")
    # Whatever rounds.jsonl says, the ledger's figures are shown.
    rounds = folder.rounds_path.read_text()
    folder.rounds_path.write_text(re.sub(r'"epsilon":[0-9.]+', '"epsilon":0.125', rounds))
    measured = measured_run(read_run(folder))
    # 40 people in cohorts of 10: everybody took part once in the first four rounds, twice in eight.
    once, twice = (Cost(times / (2 * 2.0**2)).epsilon(head.delta) for times in (1, 2))
    assert measured.points == ((4, pytest.approx(once), 0.04), (8, pytest.approx(twice), 0.08))
    assert measured.epsilon == ledger.epsilon() > whole
    printed = json.loads(CliRunner().invoke(cli, ["privacy", "--run", str(folder.path), "--json"]).stdout)
    assert printed["measured"][0]["epsilon"] == pytest.approx(ledger.epsilon())


def test_a_word_list_from_the_same_people_is_added_wherever_an_epsilon_is_stated(tmp_path):
    folder = build_run(tmp_path / "run")
    assert run_privacy(read_run(folder)).total is None
    found = {"words": 100, "epsilon": 8.0, "delta": 1e-6, "clients": 40}
    (folder.path / "vocabulary.json").write_text(json.dumps(found))
    result = run_privacy(read_run(folder))
    epsilon = epsilon_spent(folder.path)
    assert result.total == Guarantee(pytest.approx(epsilon + 8.0), pytest.approx(result.delta + 1e-6))
    together = f"epsilon {epsilon + 8.0:.4g} at delta {result.delta + 1e-6:.3g}"
    assert f"All of it together: {together}" in " ".join(
        CliRunner().invoke(cli, ["privacy", "--run", str(folder.path)]).output.split()
    )
    tiles = [card for card in headline(view_run(read_run(folder))) if "epsilon of one person" in card.label]
    assert [card.value for card in tiles] == [f"{epsilon + 8.0:.3g}"]
    section = privacy_section(view_run(read_run(folder)))
    assert f"spends epsilon {epsilon + 8.0:.3g} at delta" in section.paragraphs[1]
    (folder.path / "vocabulary.json").write_text(json.dumps({**found, "epsilon": None}))  # without noise
    assert run_privacy(read_run(folder)).total.epsilon is None


def begin_with(folder, *texts):
    """Writes into run.json that the run began with a model that was trained on these texts."""
    path = folder.path / "run.json"
    start = Start("run", "before", 9, "a", "b", 5, 5, texts)
    path.write_bytes(msgspec.json.encode({**json.loads(path.read_bytes()), "start": start}))
    return run_privacy(read_run(folder))


def test_a_start_on_the_same_people_s_text_is_added_and_one_on_other_text_is_said(tmp_path):
    folder = build_run(tmp_path / "run")
    epsilon = epsilon_spent(folder.path)
    once = StartText("test", "another digest", epsilon=3.0, delta=1e-6)
    twice = StartText("another name", "-", epsilon=2.0, delta=2e-6)
    result = begin_with(folder, once, twice, StartText("public", "8", licence="CC0"))
    assert result.start == Guarantee(5.0, pytest.approx(3e-6))
    assert result.total == Guarantee(pytest.approx(epsilon + 5.0), pytest.approx(result.delta + 3e-6))
    assert any("comes on top" in text and "at epsilon 3, delta" in text for text in result.assumptions)
    shown = " ".join(CliRunner().invoke(cli, ["privacy", "--run", str(folder.path)]).output.split())
    assert "the same people's text, for epsilon 5 at delta 3e-06." in shown
    assert f"All of it together: epsilon {epsilon + 5.0:.4g} at delta" in shown

    unprotected = begin_with(folder, StartText("test", "-"))
    assert unprotected.total == Guarantee(None, unprotected.delta)
    tiles = [card for card in headline(view_run(read_run(folder))) if "epsilon of one person" in card.label]
    assert [card.value for card in tiles] == ["none holds"]

    others = begin_with(folder, StartText("chats.jsonl", "9"))
    assert (others.start, others.total) == (None, None)
    assert any("(chats.jsonl) without differential privacy" in text for text in others.assumptions)


def test_counts_that_chose_the_start_s_text_add_up_with_the_run_as_gaussian_releases_do(tmp_path):
    folder = build_run(tmp_path / "run")
    alone = run_privacy(read_run(folder))
    chose = StartText("test", "-", epsilon=3.0, delta=alone.delta, noise_multiplier=2.0)
    result = begin_with(folder, StartText("public", "8", licence="CC0"), chose)
    assert result.start == Guarantee(3.0, alone.delta)
    expected = Cost(alone.zcdp + 1 / (2 * 2.0**2)).epsilon(alone.delta)
    assert result.total == Guarantee(pytest.approx(expected), alone.delta)
    assert alone.epsilon[alone.delta] < expected < alone.epsilon[alone.delta] + 3.0
    # Of noise that is not Gaussian only the epsilon is known.
    other = begin_with(folder, msgspec.structs.replace(chose, noise_multiplier=0.0))
    assert other.total.epsilon == pytest.approx(alone.epsilon[alone.delta] + 3.0)
    assert other.total.delta == pytest.approx(2 * alone.delta)
    # What other people chose costs these nothing.
    assert begin_with(folder, msgspec.structs.replace(chose, name="others", sha256="9")).total is None


def test_a_public_start_costs_nothing(tmp_path):
    result = begin_with(build_run(tmp_path / "run"), StartText("test", "8", licence="CC0"))
    assert (result.start, result.total) == (None, None)
    assert any("which costs no epsilon" in text for text in result.assumptions)


def test_a_licence_does_not_make_the_run_s_own_text_public(tmp_path):
    result = begin_with(build_run(tmp_path / "run"), StartText("copy", "-", licence="CC0"))
    assert result.start == Guarantee(None, 0.0)
    assert result.total == Guarantee(None, result.delta)
    assert any("These are people of this run" in text for text in result.assumptions)


def test_the_report_says_what_a_private_model_is_beside_the_private_n_gram(tmp_path):
    folder = build_run(tmp_path / "run")

    def texts():
        return " ".join(comparison(view_run(read_run(folder))).paragraphs)

    write_evaluation(folder)
    assert f"`fedkeys ngram --run {folder.path}` releases them" in texts()
    ngram = folder.path / "private_ngram"
    ngram.mkdir()
    Ledger(ngram, LedgerHead("central", 1.0, 1.0, 40, 1e-3, 0.0, 1, 1, "-")).charge(1, PEOPLE)
    assert "was charged for are not here" in texts()
    released = NgramRelease(3.0, 1e-3, 1.0, 40, "plain", "central", 20, 1.0, 9)
    write_figures(ngram / "release.json", released)
    assert f"not scored yet: `fedkeys evaluate --run {folder.path}` does" in texts()
    found = {
        "epsilon": 3.0, "delta": 1e-3, "ngram": score(0.1237), "mixed": score(0.128), "model_weight": 0.4,
        "model_minus_ngram": -0.0052, "model_minus_ngram_interval": [-0.0075, -0.0028],
    }  # fmt: skip
    write_evaluation(folder, private_ngram=found)
    assert "epsilon 3 at delta 0.001 beside what the model has spent: −0.52 points of top-1 recall" in texts()
    assert "(95% over people: −0.75 to −0.28): worse. The model's share in the mixture with it is 0.4." in texts()
    write_evaluation(build_run(tmp_path / "open", "none"))
    assert "noisy sum" not in " ".join(comparison(view_run(read_run(RunFolder(tmp_path / "open")))).paragraphs)

"""The audit on paper and in a terminal, from figures made by hand."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.audit.leakage_results import (
    FILE_NAME,
    AuditResult,
    Estimate,
    Exposed,
    Exposure,
    OneRun,
    OneShot,
    Stated,
    SummedScores,
    WholeRun,
)
from orchestrator.cli.audit_tables import print_audit
from orchestrator.report.audit import audit
from orchestrator.run.results import write_figures
from orchestrator.run.spent import Guarantee

BOUND = OneRun(canaries=1000, guesses=200, right=150, confidence=0.95, epsilon=0.75)
RESULT = AuditResult(
    round_num=200,
    mechanism="central",
    noise_multiplier=1.25,
    clip_norm=0.5,
    coordinates=4096,
    delta=1e-4,
    stated=Stated(one_round=3.5, run=9.96),
    one_shot=OneShot(256, 0.0625, 0.015, 0.0156, None, 12.5),
    one_run=BOUND,
    summed_scores=SummedScores(1000, 200, 380, 500, 0.95, 0.875, 1.125),
    exposure=Exposure(
        most_possible=12.0,
        by_repeats={"1": Exposed(8, 1.5, 3.25), "16": None},
        never_took_part=Exposed(3, 1.25, 2.0),
        never_planted=Exposed(24, 1.375, 4.0),
        of_copy=True,
    ),
    whole_run=WholeRun(
        canaries=190,
        included=97,
        rounds=200,
        all_releases=Estimate(2.5, 9.1, (7.1, 11.1)),
        final_model=Estimate(1.5, 5.3, (3.9, None)),
        one_run=OneRun(190, 95, 80, 0.95, 2.25),
        scores_in=(2.0, 3.0),
        scores_out=(0.0, -1.0),
        summed_scores=SummedScores(190, 95, 200, 240, 0.95, 2.75, 3.25),
    ),
)
NOTHING = msgspec.structs.replace(
    RESULT,
    stated=Stated(one_round=None, run=None),
    summed_scores=None,
    whole_run=None,
    whole_run_reason="no canary client took part",
    exposure=None,
    exposure_reason="no phrases were planted",
)


class Run:
    """What the section reads of a run."""

    def __init__(self, path):
        self.path = path


def test_each_figure_says_of_which_kind_it_is(tmp_path):
    assert audit(Run(tmp_path)) is None
    write_figures(tmp_path / FILE_NAME, RESULT)
    section = audit(Run(tmp_path))
    epsilons, phrases = section.tables
    assert [row[:3] for row in epsilons.rows] == [
        ("9.96", "the run", "upper bound"),
        ("9.1", "the run", "estimate"),
        ("5.3", "the run", "estimate"),
        ("2.25", "the run", "lower bound at 95%"),
        ("2.75", "the run", "lower bound at 95%"),
        ("3.25", "the run", "lower bound at 95%"),
        ("3.5", "one round", "upper bound"),
        ("above 200", "one round", "estimate"),
        ("0.75", "one round", "lower bound at 95%"),
        ("0.875", "one round", "lower bound at 95%"),
        ("1.12", "one round", "lower bound at 95%"),
    ]
    assert [epsilons.rows[row][3].endswith("if the guarantee is a Gaussian one") for row in (4, 5)] == [False, True]
    assert epsilons.rows[2][3].endswith("by the model at the end; 3.9 to above 200 at 95%")
    assert phrases.rows == (
        ("typed 1 time", "8", "1.5", "3.2"),
        ("typed by people who took part in no round", "3", "1.2", "2.0"),
        ("never planted", "24", "1.4", "4.0"),
    )
    assert phrases.caption.endswith("They were planted in a copy of the run.")
    assert "190 canary clients took part in 200 rounds" in section.figures[0].caption


def test_without_canaries_phrases_and_noise_there_is_less(tmp_path):
    write_figures(tmp_path / FILE_NAME, NOTHING)
    section = audit(Run(tmp_path))
    (epsilons,) = section.tables
    assert [row[0] for row in epsilons.rows] == ["no limit", "no limit", "above 200", "0.75"]  # of an audit of before
    assert not section.figures


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (
            RESULT,
            [
                "typed 1 time 8 1.5 3.2",
                "never planted 24 1.4 4.0",
                "80 of 95",
                "200 of 240",
                "copy of the run",
            ],
        ),
        (NOTHING, ["the whole run: no canary client took part", "planted phrases: no phrases were planted"]),
    ],
)
def test_a_terminal_shows_the_same_figures(result, lines, capsys):
    print_audit(result)
    shown = " ".join(capsys.readouterr().out.split())
    for line in lines:
        assert line in shown


def test_only_a_missing_exposure_has_a_reason():
    assert "exposure_reason" not in msgspec.to_builtins(RESULT)
    assert msgspec.to_builtins(NOTHING)["exposure_reason"] == "no phrases were planted"


def test_the_sum_with_the_word_list_is_a_row_of_its_own(tmp_path, capsys):
    both = msgspec.structs.replace(RESULT, stated=Stated(3.5, 9.96, run_and_words=Guarantee(17.96, 1.01e-4)))
    write_figures(tmp_path / FILE_NAME, both)
    epsilon, of, _, how = audit(Run(tmp_path)).tables[0].rows[1]
    assert (epsilon, of) == ("18", "the run with its other releases")
    assert how.endswith("at delta 0.000101")
    print_audit(both)
    assert " 18 " in capsys.readouterr().out


def test_a_shorter_copy_says_that_it_shows_too_little(tmp_path):
    shorter = msgspec.structs.replace(RESULT, exposure=msgspec.structs.replace(RESULT.exposure, copy_rounds=60))
    write_figures(tmp_path / FILE_NAME, shorter)
    caption = audit(Run(tmp_path)).tables[1].caption
    assert "trained for 60 rounds in place of 200" in caption
    assert caption.endswith("these estimates are low for the run.")

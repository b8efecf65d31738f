"""The attack on paper: the section of the report, and the page of its own, from figures made by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.audit.attack_results import (
    FILE_NAME,
    AttackResult,
    Check,
    Example,
    Named,
    NoisePoint,
    NoiseResult,
    OnlyTarget,
    RebuiltMeans,
    Score,
)
from orchestrator.cli.audit_tables import print_attack
from orchestrator.report.attack import attack
from orchestrator.report.attack_page import write_attack_page
from orchestrator.report.attack_parts import verdicts
from orchestrator.run.results import write_figures


class Run:
    """What the section and the page read of a run."""

    def __init__(self, path: Path, words=True, has_built_in_text=False):
        self.path, self.name = path, path.name
        self.words, self.has_built_in_text = words, has_built_in_text


def rules(f1, auc):
    return {"bias_sign": Score(precision=0.75, recall=0.5, f1=f1, best_f1=0.9, auc=auc, f1_sd=0.0625)}


def result(**changes):
    values = {
        "round_num": 200,
        "sentences": 20,
        "clients": ("ann", "bob", *"cdefghij"),
        "aggregator": "secagg",
        "words": 996,
        "views": {"raw": rules(0.6, 0.9), "masked": rules(0.1, 0.493), "sum_2": rules(0.5, 0.8), "sum_100": None},
        "attribution": {"sum_2": rules(0.3, 0.7)},
        "per_client": {},
        "baselines": {"raw": 0.45, "masked": 0.45, "sum_2": 0.5},
        "typed_words": {"raw": 80.0},
        "reasons": {"sum_100": "fewer than 100 people train in this run"},
        "baseline_f1": 0.45,
        "target_only": {"sum_2": OnlyTarget(words=58, readable=42, examples=("zebra", "<i>"))},
        "target_only_words": 58,
        "target_only_readable": 42,
        "named": {"raw": (Named("see", "client"), Named("you", "nobody")), "sum_2": (Named("dog", "other"),)},
        "noise": NoiseResult("example", 1.0, 0.5, 10, (NoisePoint(0.1, 0.7), NoisePoint(1.0, 0.51)), 1.0),
        "rebuilt": {"20": RebuiltMeans(2, 0.25, 0.5, 0.6, 0.1, (Example("see you", "see <unk>"),))},
        "checks": (),
    }
    return AttackResult(**{**values, **changes})


@pytest.fixture
def run(tmp_path):
    write_figures(tmp_path / FILE_NAME, result())
    return Run(tmp_path)


def test_verdicts_name_what_is_protected_and_what_is_not():
    unprotected, sentences, protected, not_protected, noise, missing = verdicts(result())
    assert "names 50% of the person's words, and 75% of the words that it names are right" in unprotected
    assert "frequent words finds 45%" in unprotected
    assert sentences == "From an update of 20 sentences, 25% are rebuilt word for word."
    assert "AUC at most 0.007 away from 0.5" in protected
    assert "of 2, 75% of the words" in not_protected
    assert "Of the 58 words that only one person typed, 42 can be read." in not_protected
    assert noise.startswith("Only noise hides the words themselves: here from 1 clip norms on.")
    assert missing == "sum of 100: not shown, fewer than 100 people train in this run."


def test_a_hidden_update_that_tells_something_is_not_called_protected():
    told = Check("masked: bias_sign's AUC is within 3 standard errors of 0.5", ok=False, value=0.7, standard_error=0.05)
    points = verdicts(result(checks=(told,)))
    assert not any(point.startswith("Protected") for point in points)
    assert "NOT as it should be" in points[2]


def test_the_section_shows_words_with_who_typed_them(run):
    section = attack(run)
    words, only = section.tables
    assert words.columns == ("as it is", "sum of 2")
    assert words.rows == (("● see", "○ dog"),)
    assert only.rows == (("sum of 2", "58", "42", "zebra, <i>"),)
    assert section.figures[0].svg.startswith("<svg")


def test_the_page_escapes_what_people_typed(run):
    page = write_attack_page(run, result(), words=True).read_text()
    assert "zebra, &lt;i&gt;" in page
    assert "<i>" not in page
    assert page.count("<svg") == 3
    assert "0.600 ± 0.062" in page
    assert "42 of 58" in page
    assert "only you may read it" in page


def test_without_the_switch_no_word_that_was_typed_shows(run):
    path = write_attack_page(run, result())
    assert path.stat().st_mode & 0o777 == 0o600
    page = path.read_text()
    assert not re.search(r"\bann\b|zebra|see you|see &lt;unk|● see|○ dog", page)
    assert "● •••" in page
    assert "The words that they typed are masked" in page
    section = attack(Run(run.path, words=False))
    assert section.tables[0].rows == (("● •••", "○ •••"),)
    assert not section.holds_words
    assert "ann" not in str(section)


def test_words_of_the_public_text_are_called_public(run):
    public = write_attack_page(Run(run.path, has_built_in_text=True), result(), words=True).read_text()
    assert "They are of the built-in text, which is public." in public


def test_a_report_shows_no_attack_on_nine_people(tmp_path):
    write_figures(tmp_path / FILE_NAME, result(clients=tuple("abcdefghi")))
    section = attack(Run(tmp_path))
    assert section.paragraphs[0].startswith("9 attacked people: under 10 people: not shown.")
    assert (section.figures, section.tables, section.points) == ((), (), ())


def test_a_page_of_few_people_leaves_out_what_it_can_not_show(tmp_path):
    few = result(
        views={"raw": rules(0.6, 0.9), "sum_2": None},
        target_only={},
        noise=NoiseResult("example", 1.0, 0.5, 1, (), None),
        rebuilt={},
        named={"raw": (Named("see", "client"),), "sum_2": None},
        reasons={"sum_2": "fewer than 2 people train in this run"},
    )
    page = write_attack_page(Run(tmp_path), few).read_text()
    assert "There are too few people for a sum." in page
    assert "sum of 2: not shown, fewer than 2 people" in page


def test_without_an_attack_there_is_no_section(tmp_path):
    assert attack(Run(tmp_path)) is None


def test_a_terminal_shows_the_same_figures(capsys):
    print_attack(result())
    shown = capsys.readouterr().out
    assert "sum_2: of 58 words that only a target typed, 42 can still be read" in shown
    assert "25% rebuilt word for word" in shown
    assert "sum_100 is not shown: fewer than 100 people train in this run" in shown

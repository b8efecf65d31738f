"""The seven lines that a demo ends with, from the files of a run of version 0.1."""

from __future__ import annotations

from pathlib import Path

import msgspec

from orchestrator.audit.attack_results import read_attack
from orchestrator.audit.leakage_results import Exposed, Exposure, read_audit
from orchestrator.cli.demo_lines import closing_lines
from orchestrator.evaluation.results import read_evaluation
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run

OLD_RUN = Path(__file__).parents[2] / "data" / "run_of_0_1" / "run"
PAGES = (Path("runs/demo/report.html"), Path("runs/demo/attack.html"))


EXPOSURE = Exposure(
    12.0,
    {"1": Exposed(8, 4.25, 9.0), "4": Exposed(8, 10.75, 12.0), "16": Exposed(8, 11.5, 12.0)},
    never_took_part=None,
    never_planted=Exposed(24, 1.5, 4.0),
    of_copy=True,
    copy_rounds=300,
)


def lines_of(num_people, attack, exposure=EXPOSURE):
    evaluation = msgspec.structs.replace(read_evaluation(OLD_RUN), clients=num_people)
    audit = msgspec.structs.replace(read_audit(OLD_RUN), exposure=exposure)
    return closing_lines(read_run(RunFolder(OLD_RUN)), evaluation, attack, audit, PAGES, Path("runs/demo-bundle"))


def test_seven_lines_say_what_a_demo_came_to():
    lines = lines_of(131, read_attack(OLD_RUN))
    assert lines[:4] == [
        "how well        first word right 19.2%, one of three 49.7%, 131 new people",
        "beside it       trigram of everybody's text 74.9%, both mixed 74.9%",
        "a server reads  85% of the words of a bare update; AUC 0.53 masked (chance: 0.5)",
        "in sums         5 of 5 words of one person alone, in a sum of 10",
    ]
    assert lines[4] == "phrases typed   1x 4.2, 4x 10.8, 16x 11.5, never 1.5 of 12 bits (short copy)"
    assert lines[5].startswith("the cost        6 rounds in ")
    assert lines[5].endswith(" a turn of a phone, no epsilon")
    assert lines[6].split() == [
        "the",
        "pages",
        "runs/demo/report.html,",
        "runs/demo/attack.html;",
        "for",
        "phones:",
        "runs/demo-bundle",
    ]
    assert all(len(line) <= 80 for line in lines[:6])


def test_a_copy_of_all_rounds_is_not_called_short():
    whole = msgspec.structs.replace(EXPOSURE, by_repeats={"1": None, "4": Exposed(1, 2.0, 2.0)}, copy_rounds=None)
    assert lines_of(131, None, whole)[4] == "phrases typed   4x 2.0, never 1.5 of 12 bits"


def test_figures_of_few_people_and_of_no_attack_are_not_in_them():
    lines = lines_of(9, None, None)
    assert lines[4].endswith("not measured")
    assert lines[0].endswith("9 test people, under 10 people: not shown")
    assert "%" not in "".join(lines)

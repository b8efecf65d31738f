"""The page of a run: every figure is that of the files, nothing from outside is code, and what is missing is said."""

from __future__ import annotations

import re

import pytest
from reported_run import add_rounds, begin_run, report_of, score, write_evaluation

from orchestrator.errors import RunFolderError
from orchestrator.report.comparison import comparison
from orchestrator.report.report import SECTIONS, write_report
from orchestrator.report.view import view_run
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run
from orchestrator.settings.run_config import RunConfig


@pytest.fixture
def folder(tmp_path):
    """A run of four rounds, not evaluated on the test people."""
    folder = begin_run(tmp_path / "a <run> & more")
    add_rounds(folder)
    return folder


def page_of(folder):
    """The page, without what only a phone shows."""
    page = write_report(read_run(folder)).read_text(encoding="utf-8")
    return re.sub(r'<td data-column="[^"]*">', "<td>", page)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of that run."""
    folder = begin_run(tmp_path_factory.mktemp("plain") / "run")
    add_rounds(folder)
    return page_of(folder)


@pytest.fixture(scope="module")
def evaluated_page(tmp_path_factory):
    """The report of that run, evaluated."""
    folder = begin_run(tmp_path_factory.mktemp("evaluated") / "a <run> & more")
    add_rounds(folder)
    write_evaluation(folder)
    return page_of(folder)


def test_figures_are_those_of_the_files(evaluated_page):
    for shown in ("18.17%", "28.17%", "1.817", "17.17% to 19.17%", "4.41%", "15.12%", "19.40%", "20.71%"):
        assert shown in evaluated_page
    assert "−1.23 points" in evaluated_page
    assert "4,321 words of 20 people" in evaluated_page
    assert "3.57%" in evaluated_page
    # Ten people have 1.23 %, eight times 11 % and 19 %, the ten others nine times 19 % and 38.77 %.
    assert "top-1 recall is 10.8% on average in the first group and 21.0% in the last" in evaluated_page
    assert f"SHA-256 {'4' * 64}" in evaluated_page


def test_dev_points_carry_what_was_spent_until_then(folder, page):
    run = view_run(read_run(folder))
    # Two rounds of two clients of 4 MB by the second; the abandoned third adds time only.
    assert [(p.round_num, p.wall_s, p.uploaded_bytes, p.top1) for p in run.dev_points] == [
        (2, 4.0, 16e6, 0.1234),
        (4, 8.0, 24e6, 0.1357),
    ]
    cells = re.findall(r"<td>(.*?)</td>", page)
    start = cells.index("4.00 s")
    assert cells[start - 1 : start + 5] == ["2", "4.00 s", "16.0 MB", "12.34%", "23.45%", "5.432"]


def test_costs_and_outcomes_are_added_up(page):
    assert "<tr><td>upload</td><td>4.00 MB</td><td>0 B</td></tr>" in page
    assert "<tr><td>together</td><td>4.00 MB</td><td>4.00 kB</td></tr>" in page  # 1,000 weights of 4 bytes
    assert "2 people took part; how often on average: under 10 people: not shown." in page
    assert "<tr><td>rounds abandoned</td><td>1</td></tr>" in page
    assert "<tr><td>rounds completed</td><td>3</td></tr>" in page
    assert "<td>6 (75.0%)</td>" in page  # updates summed, of eight selected
    assert "<tr><td>train at the clients</td><td>1.500 s</td><td>1.500 s</td><td>75.0%</td></tr>" in page
    assert "<tr><td>rest</td><td>0.250 s</td><td>0.250 s</td><td>12.5%</td></tr>" in page


def test_the_bill_of_a_person_is_a_mean_over_ten(tmp_path):
    folder, everybody = begin_run(tmp_path / "run"), tuple("abcdefghij")
    folder.append_round(report_of(1, selected=everybody, survivors=everybody), wall_s=2.0)
    folder.append_round(report_of(2, selected=everybody[:5], survivors=everybody[:5]), wall_s=2.0)
    assert "did so 1.5 times on average, and so sent 6.00 MB and received 6.00 kB over the whole run" in page_of(folder)


def test_only_changed_settings_are_listed_as_changed(page):
    assert f"<tr><td>rounds.count</td><td>4</td><td>{RunConfig().rounds.count}</td></tr>" in page
    assert "<tr><td>server.momentum</td><td>0.9</td></tr>" in page
    assert "<tr><td>server.momentum</td><td>0.9</td><td>0.9</td></tr>" not in page


def test_text_from_outside_is_escaped(evaluated_page):
    assert "<script" not in evaluated_page
    assert "&lt;script&gt;alert" in evaluated_page  # why a round was abandoned
    assert "&lt;b&gt;see" in evaluated_page
    assert "you&amp;me 42%" in evaluated_page
    assert "<h1>a &lt;run&gt; &amp; more</h1>" in evaluated_page


def test_the_page_refers_to_nothing_outside_itself(evaluated_page):
    assert not re.search(r"https?:", evaluated_page)
    assert not re.search(r"<link|<img|<script|@import|\bsrc=", evaluated_page)
    references = re.findall(r'(?:href="|url\()#([^")]+)', evaluated_page)
    ids = re.findall(r'\bid="([^"]+)"', evaluated_page)
    assert references
    assert set(references) <= set(ids)
    assert len(set(ids)) == len(ids)  # an id of one figure is not taken for another's


def test_colours_are_the_pages_own(page):
    assert page.count("<svg") == 5  # recall against three things, loss, stages
    assert "#0a00" not in page  # matplotlib's stand-ins are gone
    figures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): (?:#|black|white)", figures)


def test_without_evaluation_it_says_how_to_get_one(page):
    assert "fedkeys evaluate --run" in page
    assert "13.6%" in page  # the dev people's last figure stands in
    assert "trigram" not in page


def test_a_phone_reads_a_cell_behind_its_column(evaluated_page, folder):
    write_evaluation(folder)
    page = write_report(read_run(folder)).read_text(encoding="utf-8")
    assert '<td data-column="">federated model</td><td data-column="top-1">18.17%</td>' in page


def test_no_single_person_shows(evaluated_page):
    for own in ("1.23%", "1.2%", "38.77%", "38.8%"):
        assert own not in evaluated_page
    assert "–: under 10 people: not shown." in evaluated_page  # the worst tenth of twenty
    assert " times at most" not in evaluated_page


def test_figures_of_nine_people_are_not_shown(folder):
    write_evaluation(folder, clients=9, per_person_top1={"model": [0.5] * 9})
    page = page_of(folder)
    assert "9 test people, under 10 people: not shown." in page
    assert "9 people typed enough words; a group of them is under 10 people: not shown." in page
    assert not re.search(r"18\.17|18\.2|28\.2|50\.0%", page)


def test_dev_figures_of_nine_people_are_not_shown(tmp_path):
    folder = begin_run(tmp_path / "run")
    dev = {"train_loss": 4.0, "dev_top1": 0.1234, "dev_top3": 0.2345, "dev_loss": 5.4321, "dev_people": 9.0}
    folder.append_round(report_of(1, metrics=dev), wall_s=2.0)
    page = page_of(folder)
    assert "Recall of the dev people: under 10 people: not shown." in page
    assert "12.3" not in page


def test_the_first_screen_says_whether_there_is_differential_privacy(page):
    cards = page[page.index('<div class="cards">') : page.index("<section")]
    assert "<b>none</b><span>differential privacy</span>" in cards


def test_a_page_without_words_is_for_everybody_and_has_no_warning(folder):
    path = write_report(read_run(folder), words=True)
    assert path.stat().st_mode & 0o777 == 0o644  # there is no transcript, nor an attack: no words
    assert "This page holds words" not in path.read_text()


def comparison_text(folder):
    return " ".join(comparison(view_run(read_run(folder))).paragraphs)


def test_an_evaluation_of_an_earlier_round_is_pointed_out(folder):
    write_evaluation(folder, round_num=2)
    assert "These figures are of round 2, and the run is at round 4" in comparison_text(folder)


def test_personalised_figures(folder):
    personal = {
        "learning_rate": 0.3, "epochs": 1, "step": 1.0, "setting": "learning rate 0.3", "history_share": 0.8,
        "clients": 30, "positions": 300, "before": score(0.18), "after": score(0.19), "top1_gain": 0.01,
        "top1_gain_of_others": 0.0, "top1_gain_interval": [0.0, 0.02], "share_better": 0.66, "share_worse": 0.33,
        "per_person_gain": [0.03, -0.01, 0.01] * 10,
    }  # fmt: skip
    write_evaluation(folder, personalised=personal)
    assert "goes from 18.00% to 19.00%: better for 66% of them, worse for 33%" in comparison_text(folder)


def test_the_same_run_gives_the_same_page(folder):
    assert page_of(folder) == page_of(folder)
    assert sorted(p.name for p in folder.path.glob("*.partial")) == []


def test_a_run_before_its_first_evaluation(tmp_path):
    folder = begin_run(tmp_path / "run")
    folder.append_round(report_of(1, metrics={"train_loss": float("nan")}), wall_s=0.0)
    assert "No evaluation on the dev people yet: there is one every 2 rounds." in page_of(folder)


def test_a_run_without_rounds_is_refused(tmp_path):
    folder = begin_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"run has no round yet: train it with `fedkeys train --run .* --resume`"):
        write_report(read_run(folder))
    assert not (folder.path / "report.html").exists()


def test_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(read_run(RunFolder(tmp_path)))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"model": 1}', b"\xff"])
def test_a_damaged_evaluation_is_refused_in_one_line(folder, content):
    (folder.path / "evaluation.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"evaluation\.json is damaged") as caught:
        write_report(read_run(folder))
    assert "\n" not in str(caught.value)


def test_the_page_holds_the_rows_in_their_order(folder):
    write_evaluation(folder)
    run = view_run(read_run(folder))
    shown = [row.key for row in SECTIONS if row.build(run) is not None]
    assert re.findall(r'<section id="([^"]+)"', page_of(folder)) == shown
    # No fleet, no differential privacy; no transcript, attack nor audit was made of this run.
    expected = "comparison learning people fairness examples times phone-bill outcomes limits settings versions"
    assert shown == expected.split()


def test_each_section_has_its_own_key():
    assert len({row.key for row in SECTIONS}) == len(SECTIONS)

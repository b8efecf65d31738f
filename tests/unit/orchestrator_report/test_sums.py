"""One client's upload on paper and in a terminal, from figures made by hand."""

from __future__ import annotations

import base64
import re

import pytest

from orchestrator.audit.transcript_results import (
    Correlation,
    TranscriptResult,
    Uniformity,
    UpdateNorm,
    Upload,
    write_transcript,
)
from orchestrator.cli.audit_tables import print_transcript
from orchestrator.report.sums import as_the_server_saw


def upload(ok, **more):
    return Upload(
        bytes=4000,
        uniform_bytes=Uniformity(n=4000, chi_square=250.0, p_value=0.5 if ok else 0.0, ok=ok),
        byte_counts=(4000, *[0] * 255),
        picture=base64.b64encode(bytes(64)).decode(),
        **more,
    )


def result(masked_r=0.01):
    correlation = Correlation(n=1000, r=masked_r, p_value=0.75, ok=abs(masked_r) < 0.1)
    return TranscriptResult(
        round_num=7,
        client="ann[b]",
        aggregator="secagg",
        mechanism="none",
        update_norm=UpdateNorm(0.125, 0.125),
        false_alarm_rate=1e-6,
        plain=upload(False, first_words=(1, 2**32 - 1), loudest=("see", "dog")),
        masked=upload(True, first_words=(5, 6), loudest=("dog", "cat"), correlation=correlation),
        encrypted=upload(True, first_bytes="00ff" * 16, correlation=correlation),
        typed=("see", "dog"),
        typed_share=0.25,
    )


class Run:
    """What the section reads of a run."""

    def __init__(self, path, words=True):
        self.path, self.words = path, words


@pytest.mark.parametrize(("masked_r", "verdict"), [(0.01, "passes"), (0.5, "FAILS")])
def test_the_section_says_what_can_be_read_and_what_can_not(tmp_path, masked_r, verdict):
    assert as_the_server_saw(Run(tmp_path)) is None
    write_transcript(tmp_path, result(masked_r))
    section = as_the_server_saw(Run(tmp_path))
    text = section.paragraphs[1]
    assert "In the clear, 2 of the 2 words" in text
    assert "under masks, 1 of 2" in text
    assert f"encrypted {verdict} the tests" in text
    (table,) = section.tables
    assert table.columns == ("", "plain sum", "secure aggregation", "encrypted sum")
    assert table.rows[1] == ("loudest words", "see ●, dog ●", "dog ●, cat", "none to read")
    assert table.rows[2][1:3] == (
        "no: chi² = 250, n = 4,000, p < 1e-300",
        "yes: chi² = 250, n = 4,000, p = 0.5",
    )
    assert table.rows[3][1] == "it is the update"
    assert table.rows[3][2].startswith("none: r = +0.01" if masked_r < 0.1 else "SOME: r = +0.5")


def test_without_the_switch_no_word_of_the_client_shows(tmp_path, capsys):
    write_transcript(tmp_path, result())
    section = as_the_server_saw(Run(tmp_path, words=False))
    (table,) = section.tables
    assert table.rows[1] == ("loudest words", "••• ●, ••• ●", "••• ●, cat", "none to read")
    assert section.paragraphs[0].startswith("One client sent one update in round 7.")
    assert "left out: words can" in section.figures[0].svg
    assert not any(own in str(section) for own in ("see", "dog", "ann", "25.0%"))
    assert not section.holds_words
    print_transcript(result().without_words())
    shown = capsys.readouterr().out
    assert "••• *" in shown
    assert not re.search(r"\bsee \*|dog", shown)


def test_a_terminal_shows_the_same_figures(capsys):
    print_transcript(result())
    shown = capsys.readouterr().out
    for text in ("Client ann[b] in round 7", "see *", "chi² = 250", "r = +0.01", "-1", "00ff00ff", "4,000", "0.125 in"):
        assert text in shown, text

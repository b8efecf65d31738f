"""The report's section on one client's upload as the server saw it."""

from __future__ import annotations

import base64
from typing import Optional

from models.disclosure import MASKED
from orchestrator.audit.transcript_results import TranscriptResult, read_transcript_file
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import attack as attack_plots
from orchestrator.report.view import RunView
from orchestrator.settings.kinds import SUM_TRAITS
from orchestrator.units import size_text


def as_the_server_saw(run: RunView) -> Optional[Section]:
    """Returns one client's upload under each aggregator; None before `fedkeys transcript`."""
    result = read_transcript_file(run.path)
    if result is None:
        return None
    who = f"Client {result.client}" if run.words else "One client"
    if not run.words:
        result = result.without_words()
    pictures = {
        SUM_TRAITS[name].label: (base64.b64decode(upload.picture), upload.byte_counts)
        for name, upload in result.uploads.items()
    }
    return Section(
        "What the server saw of one client",
        (
            f"{who} sent one update in round {result.round_num:,}. This is what a server receives of it "
            "under each aggregator. This run's aggregator is "
            f"`{result.aggregator}`. The round was computed again from its checkpoint, with fresh keys.",
            _verdict(result, run.words),
        ),
        (
            Figure(
                attack_plots.byte_views(pictures),
                "Above: the first bytes that the server received, a dot each, from 0 (black) to 255 (white). Below: "
                "how often each value occurs in all of them; dashed: as often as in uniform bytes.",
            ),
        ),
        (_table(result, run.words),),
        holds_words=run.words,
    )


def _verdict(result: TranscriptResult, words: bool) -> str:
    hidden = [upload for name, upload in result.uploads.items() if SUM_TRAITS[name].hides_updates]
    tests = [test for upload in hidden for test in (upload.uniform_bytes, upload.correlation) if test is not None]
    passed = "passes" if all(test.ok for test in tests) else "FAILS"
    in_clear, under_masks = (
        sum(word in result.typed for word in upload.loudest) for upload in (result.plain, result.masked)
    )
    num = len(result.plain.loudest)
    share = f"The client typed {result.typed_share:.1%} of the model's words. " if words else ""
    return (
        f"In the clear, {in_clear} of the {num} words that the update raises most are words that this client typed; "
        f"under masks, {under_masks} of {num}. {share}What "
        f"arrives masked or encrypted {passed} the tests for uniform bytes and for no correlation with the update, "
        f"each at a false-alarm rate of {result.false_alarm_rate:g}."
    )


def _table(result: TranscriptResult, words: bool) -> Table:
    uploads = result.uploads.values()
    loudest = (", ".join(f"{w} ●" if w in result.typed else w for w in upload.loudest) for upload in uploads)
    hidden = "" if words else f" {MASKED} masks it; the switch `--words` shows it."
    correlations = (upload.correlation for upload in uploads)
    return Table(
        ("", *(SUM_TRAITS[name].label for name in result.uploads)),
        (
            ("bytes", *(size_text(upload.bytes) for upload in uploads)),
            ("loudest words", *(text or "none to read" for text in loudest)),
            ("are its bytes uniform?", *(_in_a_line(upload.uniform_bytes.in_words) for upload in uploads)),
            (
                "correlation with the update",
                *("it is the update" if test is None else _in_a_line(test.in_words) for test in correlations),
            ),
        ),
        f"Loudest words: those whose output bias the upload raises most; ● marks what this client typed.{hidden}",
        texts=True,
    )


def _in_a_line(test: tuple[str, ...]) -> str:
    """A test's verdict, then its figures."""
    return f"{test[0]}: {', '.join(test[1:])}"

"""One client as the server saw it: the figures of `fedkeys transcript` as a file and in the report."""

from __future__ import annotations

import base64
from typing import Optional

from orchestrator.audit.transcript_results import _LABELS, Test, TranscriptView, read_transcript_file
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import attack as attack_plots
from orchestrator.report.view import RunView
from orchestrator.units import size_text


def as_the_server_saw(run: RunView) -> Optional[Section]:
    """One client's upload under each aggregator; None before `fedkeys transcript`."""
    view = read_transcript_file(run.path)
    if view is None:
        return None
    pictures = {_LABELS[name]: (base64.b64decode(seen.picture), seen.byte_counts) for name, seen in view.views.items()}
    return Section(
        "What the server saw of one client",
        (
            f"Client {view.client} in round {view.round_num}: one and the same update as a server receives it that "
            "adds in the clear, under secure aggregation, and encrypted. This run's aggregator is "
            f"`{view.aggregator}`. The round was computed again from its checkpoint, with fresh keys.",
            _verdict(view),
        ),
        (
            Figure(
                attack_plots.byte_views(pictures),
                "Above: the first bytes that the server received, a dot each, from 0 (black) to 255 (white). Below: "
                "how often each value occurs in all of it; dashed: as often as in uniform bytes.",
            ),
        ),
        (_table(view),),
    )


def _verdict(view: TranscriptView) -> str:
    hidden = [test for seen in (view.masked, view.encrypted) for test in (seen.uniform_bytes, seen.correlation) if test]
    typed = set(view.typed)
    found = {name: sum(word in typed for word in view.views[name].loudest) for name in ("plain", "masked")}
    num = len(view.plain.loudest)
    passed = "passes" if all(test.ok for test in hidden) else "FAILS"
    return (
        f"In the clear, {found['plain']} of the {num} words that the update raises most are words that this client "
        f"typed (it typed {view.typed_share:.1%} of the model's words); under masks {found['masked']} of {num}. What "
        f"arrives masked or encrypted {passed} the tests for uniform bytes and for no correlation with the update, "
        f"each at a false-alarm rate of {view.false_alarm_rate:g}."
    )


def _table(view: TranscriptView) -> Table:
    typed = set(view.typed)
    seen = view.views.values()
    words = [
        ", ".join(f"{word} ●" if word in typed else word for word in one.loudest) or "none to read" for one in seen
    ]
    return Table(
        ("", *_LABELS.values()),
        (
            ("bytes", *(size_text(one.bytes) for one in seen)),
            ("loudest words", *words),
            ("are its bytes uniform?", *(_test_text(one.uniform_bytes) for one in seen)),
            ("correlation with the update", *(_test_text(one.correlation) for one in seen)),
        ),
        "Loudest words: those whose output bias the upload raises most; ● this client typed it.",
        texts=True,
    )


def _test_text(test: Optional[Test]) -> str:
    if test is None:
        return "it is the update"
    p_text = f"p {test.p_value:.2g}" if test.p_value >= 1e-300 else "p < 1e-300"
    if test.r is not None:
        return f"{'none' if test.ok else 'SOME'}: r {test.r:+.5f}, {p_text}"
    return f"{'yes' if test.ok else 'no'}: chi² {test.chi_square:,.0f}, {p_text}"

"""The report's last sections: what the page does not show, and what a repetition of the run needs."""

from __future__ import annotations

import shlex

from orchestrator.report.parts import Section, Table
from orchestrator.report.view import RunView
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.files import flat_settings
from orchestrator.settings.run_config import RunConfig


def limits(run: RunView) -> Section:
    """Lists what the page does not show."""
    hidden = what_is_hidden(run.config.audit)
    points = [
        *([hidden] if hidden else []),
        "The phones are simulated on one machine: times are that machine's, not a phone's.",
        "Recall counts whole words of the vocabulary, none of whose letters are typed yet. A keyboard also completes "
        "begun words and corrects typing; key strokes saved are not measured.",
        "One training with one seed. Intervals are over people: another seed gives somewhat other figures.",
    ]
    if not run.config.aggregation.traits.hides_updates:
        points.append("Updates were added in the clear: the server saw each one, and an update can give text away.")
    if not run.config.privacy.traits.adds_noise:
        points.append("No differential privacy: the model may remember what somebody typed.")
    if run.run.has_built_in_text:
        points.append(
            "The text is typed chat of students of one American university in 2018, not everybody's language."
        )
    return Section("What this does not show", points=tuple(points))


def configuration(run: RunView) -> Section:
    """Lists every setting, and apart those that differ from the defaults."""
    settings, defaults = (
        {name: str(value) for name, value in flat_settings(config).items()} for config in (run.config, RunConfig())
    )
    changed = tuple((name, value, defaults[name]) for name, value in settings.items() if value != defaults[name])
    every = Table(
        ("setting", "value"), tuple(settings.items()), f"All {len(settings)} settings", folded=True, texts=True
    )
    tables = [Table(("changed setting", "this run", "default"), changed, texts=True)] if changed else []
    path = shlex.quote(f"{run.path}/config.toml")
    text = f"`fedkeys train --config {path} --run DIR` repeats this run in another folder DIR."
    return Section("Settings", (text,), (), (*tables, every))


def versions(run: RunView) -> Section:
    """Lists the versions and digests that a repetition needs to give the same weights."""
    identity = run.identity
    rows = (
        *identity.versions.items(),
        ("text", f"{identity.corpus_name}, SHA-256 {identity.corpus_sha256}"),
        ("vocabulary", f"SHA-256 {identity.vocabulary_sha256}"),
        ("word list", run.run.words.statement),
        *([("start", run.run.start.statement)] if run.run.start else []),
        ("configuration", f"SHA-256 {identity.config_sha256}"),
        (f"weights after round {run.rounds[-1].round_num:,}", f"SHA-256 {run.rounds[-1].weights_sha256}"),
    )
    return Section("Versions", tables=(Table(("", ""), rows, texts=True),))

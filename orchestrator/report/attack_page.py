"""DIR/attack.html: the attack on a run as a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from models.files import write_atomically
from orchestrator.audit.attack_results import HIDDEN_AUC, AttackResult, RebuiltMeans
from orchestrator.report.attack_parts import (
    only_target_table,
    strips,
    verdicts,
    view_label,
    what_was_done,
    words_table,
)
from orchestrator.report.page import render_page, words_warning
from orchestrator.report.parts import Card, Figure, Section, Table
from orchestrator.report.plots import attack as attack_plots
from orchestrator.run.saved import Run
from orchestrator.units import count_text

_RULES = {
    "bias_sign": "sign of the output bias",
    "row_direction": "direction of the row",
    "row_norm": "norm of the row",
}
_FIGURES_WARNING = (
    "This page shows how single people's updates were read. The words that they typed are masked; `fedkeys attack "
    "--words` shows them."
)
_LIMITS = (
    "This is one round. A server that watches the same person for many rounds, or that alters the model which it hands "
    "out to make updates tell more, learns more than this.",
    "Three known rules look at two of the model's five tables of numbers. A cleverer attack may read more; none of "
    "this proves that something is safe.",
    "The words are real words of the run's training people. Whether a word is a secret depends on the word: most are "
    "not.",
    "That noise hides a word from these rules is an observation. Only what the privacy ledger states is guaranteed; "
    "without differential privacy, nothing is.",
)


def write_attack_page(run: Run, result: AttackResult, words: bool = False) -> Path:
    """Writes DIR/attack.html, for its owner only, from what an attack on the run found, and returns its path.

    words: show the words that people typed; without it they are masked.
    """
    if not words:
        result = result.without_words()
    page = render_page(
        kind="attack on a run",
        name=run.name,
        summary=what_was_done(result),
        cards=list(_cards(result)),
        sections=list(_sections(result, words)),
        footer="Drawn from `attack.json` of the run's folder, which holds words that people typed: protect it as you "
        "protect their text.",
        warning=words_warning(run.has_built_in_text) if words else _FIGURES_WARNING,
    )
    path = run.path / "attack.html"
    write_atomically(path, page.encode(), private=True)
    return path


def _cards(result: AttackResult) -> Iterator[Card]:
    best = max(score.f1 for score in result.shown["raw"].values())
    yield Card(f"{best:.2f}", "F1 on an unprotected update", "1 = every word, no other")
    for count, part in list(result.rebuilt.items())[:1]:
        of = f"from an unprotected update of {count_text(int(count), 'sentence')}"
        yield Card(f"{part.exact:.0%}", "of the sentences rebuilt word for word", of)
    for name, label in (
        ("masked", "AUC on a masked update"),
        ("encrypted", "AUC on a ciphertext"),
        ("split", "AUC in the split sum"),
    ):
        if name in result.shown:
            yield Card(f"{result.shown[name]['bias_sign'].auc:.3f}", label, "0.5 = chance")
    if result.largest_sum is not None:
        only = result.target_only[result.largest_sum]
        label = f"words of one person alone, read in the {view_label(result.largest_sum)}"
        yield Card(f"{only.readable} of {only.words}", label, f"over {count_text(len(result.clients), 'person')}")
    if result.noise.hidden_from is not None:
        yield Card(
            f"{result.noise.hidden_from:g}", "clip norms of noise hide the words of a sum", "from these rules only"
        )


def _sections(result: AttackResult, words: bool) -> Iterator[Section]:
    yield Section("In short", points=verdicts(result))
    yield Section(
        "The words that the server is surest of",
        (
            "One square is one word that the server names, the surest on the left. Dark: this client typed it. Pale: "
            "somebody else, whose update is in the same sum, typed it. Grey: nobody did.",
        ),
        (strips(result, words),),
        (words_table(result, words),),
    )
    if result.rebuilt:
        yield _sentences(result)
    yield _sums(result)
    yield _noise(result)
    yield _rules(result)
    yield Section("What this does not show", points=_LIMITS)


def _sentences(result: AttackResult) -> Section:
    """What was typed in order."""
    rows = tuple(
        (count, f"{part.exact:.0%}", f"{part.pair_recall:.0%}", f"{part.pair_precision:.0%}", f"{part.model_alone:.0%}")
        for count, part in result.rebuilt.items()
    )
    most_sentences, most = list(result.rebuilt.items())[-1]
    shares = Table(
        ("sentences in the update", "rebuilt word for word", "neighbouring words", "of those named, right", "model"),
        rows,
        f"Means over {count_text(most.clients, 'person')}. Neighbouring words: pairs of adjacent words, with the start "
        "and the end of the sentence.",
    )
    tables = [shares]
    if most.examples:
        tables.append(_examples(result, most_sentences, most))
    text = (
        "From an unprotected update, the server also puts the words in order. It owns the model: it tries which word "
        "fits after which, and compares with how the update moved that word. The last column is what the model alone "
        "finds, without the update's numbers."
    )
    return Section("Not only words: sentences", (text,), tables=tuple(tables))


def _examples(result: AttackResult, num_sentences: str, means: RebuiltMeans) -> Table:
    """The first client's sentences beside what was rebuilt."""
    caption = (
        f"Client {result.clients[0]}, {count_text(int(num_sentences), 'sentence')} in one update; <unk> is a word that "
        "the model doesn't know."
    )
    rows = tuple((example.typed, example.rebuilt) for example in means.examples)
    return Table(("typed", "the closest that was rebuilt"), rows, caption, texts=True)


def _sums(result: AttackResult) -> Section:
    rows = [(view_label(name), scores["bias_sign"].f1, result.baselines[name]) for name, scores in result.shown.items()]
    caption = "F1 of the sign rule at its own threshold; marks: naming the most frequent words."
    return Section(
        "A sum hides who, not what",
        (
            "A view is scored on the words of everybody in it. A sum of more people holds more of the vocabulary, so "
            "naming frequent words gets better, too; what the server names in a sum is still right.",
        ),
        (Figure(attack_plots.recovery_bars(rows), caption),),
        (only_target_table(result),) if result.target_only else (),
    )


def _noise(result: AttackResult) -> Section:
    noise = result.noise
    if not noise.curve:
        return Section("Noise", ("There are too few people for a sum.",))
    levels, aucs = [p.multiplier for p in noise.curve], [p.auc for p in noise.curve]
    return Section(
        "Noise hides what",
        (
            f"Random noise is added to a sum of {count_text(noise.clients, 'update')}, each cut to the length "
            f"{noise.clip_norm:.3g} (the clip norm). AUC: how often a typed word ranks above another; 0.5 is chance, "
            "1 tells all.",
        ),
        (
            Figure(
                attack_plots.noise_curve(levels, aucs, HIDDEN_AUC, noise.multiplier),
                "The best of the three rules at each level of noise, mean over the attacked people.",
            ),
        ),
    )


def _rules(result: AttackResult) -> Section:
    rows = [
        (
            view_label(name),
            _RULES.get(rule, rule),
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            _with_spread(score.f1, score.f1_sd),
            f"{score.best_f1:.3f}",
            _with_spread(score.auc, score.auc_sd),
        )
        for name, rules in result.shown.items()
        for rule, score in rules.items()
    ]
    return Section(
        "All figures",
        ("Three published rules. Means over the attacked people; ± is the standard deviation between them.",),
        tables=(Table(("view", "rule", "precision", "recall", "F1", "F1, best threshold", "AUC"), tuple(rows)),),
    )


def _with_spread(value: float, spread: Optional[float]) -> str:
    return f"{value:.3f}" if spread is None else f"{value:.3f} ± {spread:.3f}"

"""The attack on a run as people read it: a page of its own, DIR/attack.html, and a section of the run's report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from models.files import write_atomically
from orchestrator.audit.attack_results import AttackView, read_attack
from orchestrator.errors import RunFolderError
from orchestrator.report.page import render_page
from orchestrator.report.parts import Card, Figure, Section, Table
from orchestrator.report.plots import attack as attack_plots
from orchestrator.report.view import RunView
from orchestrator.run.saved import Run

_HIDDEN_AUC = 0.55
_LABELS = {
    "raw": "as it is",
    "masked": "masked",
    "encrypted": "encrypted",
    "sum_2": "sum of 2",
    "sum_10": "sum of 10",
    "sum_30": "sum of 30",
    "sum_100": "sum of 100",
    "noised": "sum with noise",
}
_RULES = {
    "bias_sign": "sign of the output bias",
    "row_direction": "direction of the row",
    "row_norm": "norm of the row",
}
_SHOWN_WORDS = 10


def attack(run: RunView) -> Optional[Section]:
    """What the server could read, in short; None before `fedkeys attack`."""
    view = read_attack(run.path)
    if view is None:
        return None
    return Section(
        "What the server could read",
        (_what_was_done(view), "All of it, with its limits: `attack.html` in the run's folder."),
        (_strips(view),),
        (_words_table(view), _only_target_table(view)),
        _verdicts(view),
    )


def write_attack_page(run: Run) -> Path:
    """The path of DIR/attack.html, freshly drawn from DIR/attack.json.

    Raises:
      RunFolderError: there was no attack, or its file is damaged.
    """
    view = read_attack(run.path)
    if view is None:
        raise RunFolderError(f"{run.path} holds no attack: run `fedkeys attack --run {run.path}`")
    page = render_page(
        kind="attack on a run",
        name=run.name,
        summary=_what_was_done(view),
        cards=_cards(view),
        sections=[
            Section("In short", points=_verdicts(view)),
            Section(
                "The words that the server is surest of",
                (
                    "One square is one word that the server names, the surest on the left. Dark: this client did type "
                    "it. Pale: not this client, but somebody else whose update is in the same sum. Grey: nobody did.",
                ),
                (_strips(view),),
                (_words_table(view),),
            ),
            _sentences(view),
            _sums(view),
            _noise(view),
            _rules(view),
            Section("What this does not show", points=_LIMITS),
        ],
        footer="Drawn from `attack.json` of the run's folder. This page holds words that people typed: keep it as you "
        "keep their text.",
    )
    path = run.path / "attack.html"
    write_atomically(path, page.encode())
    return path


_NOISE_SOURCES = {
    "example": "this run adds none, and the view with noise shows what it would do.",
    "given": "the view with noise shows the level that was asked for.",
    "run": "the view with noise shows what this run adds to one round's sum.",
}
_LIMITS = (
    "One round. A server that watches the same person for many rounds, or that alters the model which it hands out to "
    "make it tell more, learns more than this.",
    "Three known rules that look at two of the model's five tables of numbers. A cleverer attack may read more; none "
    "of "
    "this proves that something is safe.",
    "Real words of the run's training people. Whether a word is a secret depends on the word: most are not.",
    "That noise hides a word from these rules is an observation. What is guaranteed is only what the privacy ledger "
    "states, and without differential privacy nothing is.",
)


def _what_was_done(view: AttackView) -> str:
    count = len(view.clients)
    people = f"{count} people's phones" if count > 1 else "one person's phone"
    return (
        f"The server that trains the model is curious: it keeps to the rules but looks at what it receives. After "
        "round "
        f"{view.round_num}, {people} each trained on {view.sentences} of their own sentences and sent the update. "
        "Which "
        "words can the server read from it?"
    )


def _verdicts(view: AttackView) -> tuple[str, ...]:
    """What is protected and what is not, in plain words, each with its figure."""
    raw = view.views["raw"]
    assert raw is not None  # it can always be had
    best = max(raw.values(), key=lambda score: score.f1)
    points = [
        f"Without protection an update tells what was typed: the server names {best.recall:.0%} of the person's "
        "words, and "
        f"{best.precision:.0%} of the words that it names are right. Somebody who sees no update and names frequent "
        f"words finds {view.baselines['raw']:.0%}.",
        *_sentence_points(view),
    ]
    hidden = [view.shown[name] for name in ("masked", "encrypted") if name in view.shown]
    if hidden:
        off = max(abs(score.auc - 0.5) for scores in hidden for score in scores.values())
        points.append(
            "Protected: a single person's update, masked or encrypted. From what the server then receives it ranks "
            "words "
            f"no better than by chance (AUC at most {off:.3f} away from 0.5)."
        )
    largest = view.largest_sum
    if largest is not None:
        only, scores = view.target_only[largest], view.shown[largest]
        points.append(
            "Not protected: that a word was typed by somebody. Secure sums and encryption hide who typed it, not the "
            "word. "
            f"In the {_LABELS[largest]}, {scores['bias_sign'].precision:.0%} of the words that the server names were "
            "typed "
            f"by somebody in it, and of the {only.words} words that only one person typed, {only.readable} can be read."
        )
    if view.noise.hidden_from is not None:
        points.append(
            f"Only noise hides the words themselves: here from {view.noise.hidden_from:g} clip norms on. It costs "
            "accuracy; " + (_NOISE_SOURCES[view.noise.source])
        )
    points += [f"{_LABELS[name]}: not shown, {reason}." for name, reason in view.reasons.items()]
    return tuple(points)


def _sentence_points(view: AttackView) -> Iterator[str]:
    for count, part in view.rebuilt.items():
        sentences = "sentence" if count == "1" else "sentences"
        yield f"Of an update of {count} {sentences}, {part.exact:.0%} are rebuilt word for word."


def _cards(view: AttackView) -> list[Card]:
    raw = view.views["raw"]
    assert raw is not None  # it can always be had
    cards = [Card(f"{max(s.f1 for s in raw.values()):.2f}", "F1 on an unprotected update", "1 = every word, no other")]
    for name in ("masked", "encrypted"):
        if name in view.shown:
            auc = view.shown[name]["bias_sign"].auc
            cards.append(
                Card(
                    f"{auc:.3f}",
                    f"AUC on a {name} update" if name == "masked" else "AUC on a ciphertext",
                    "0.5 = chance",
                )
            )
    if view.largest_sum is not None:
        only = view.target_only[view.largest_sum]
        label = f"words of one person alone, read in the {_LABELS[view.largest_sum]}"
        cards.append(Card(f"{only.readable} of {only.words}", label, f"over {len(view.clients)} people"))
    return cards


def _strips(view: AttackView) -> Figure:
    rows = {_LABELS[name]: [word.typed_by for word in words] for name, words in view.named.items() if words is not None}
    count = len(next(iter(rows.values())))
    caption = f"Client {view.clients[0]}: the {count} words that the server is surest of, view by view."
    return Figure(attack_plots.word_strips(rows), caption)


def _words_table(view: AttackView) -> Table:
    """The first words of the main views, marked."""
    marks = {"client": "●", "other": "○", "nobody": "–"}
    names = [n for n in ("raw", "masked", "encrypted", view.largest_sum, "noised") if n and view.named.get(n)]
    columns = [[f"{marks[word.typed_by]} {word.word}" for word in (view.named[n] or ())[:_SHOWN_WORDS]] for n in names]
    return Table(
        tuple(_LABELS[name] for name in names),
        tuple(zip(*columns)),
        f"Its first {_SHOWN_WORDS} words. ● this client typed it, ○ somebody else in the sum did, – nobody did.",
        texts=True,
    )


def _only_target_table(view: AttackView) -> Table:
    rows = [
        (_LABELS[name], str(only.words), str(only.readable), ", ".join(only.examples[:8]))
        for name, only in view.target_only.items()
    ]
    return Table(
        ("", "words that one person alone typed", "of these readable", "some of them"),
        tuple(rows),
        f"Summed over the {len(view.clients)} attacked people; the words are {view.clients[0]}'s.",
        texts=True,
    )


def _sentences(view: AttackView) -> Section:
    """What was typed in order."""
    rows = tuple(
        (count, f"{part.exact:.0%}", f"{part.pair_recall:.0%}", f"{part.pair_precision:.0%}", f"{part.model_alone:.0%}")
        for count, part in view.rebuilt.items()
    )
    *_, most = view.rebuilt.values()
    return Section(
        "Not only words: sentences",
        (
            "From an unprotected update the server also puts the words in order: it owns the model, tries which word "
            "fits "
            "after which, and compares with how the update moved that word. Guessing with the model alone, without the "
            "update's numbers, gets the last column.",
        ),
        tables=(
            Table(
                (
                    "sentences in the update",
                    "rebuilt word for word",
                    "neighbouring words",
                    "of those named, right",
                    "model",
                ),
                rows,
                f"Means over {most.clients} people. Neighbouring words: pairs, with start and end of the sentence.",
            ),
            Table(
                ("typed", "the closest that was rebuilt"),
                tuple((example.typed, example.rebuilt) for example in most.examples),
                f"Client {view.clients[0]}, {list(view.rebuilt)[-1]} sentences in one update; <unk> is a word that "
                "the model "
                "doesn't know.",
                texts=True,
            ),
        ),
    )


def _sums(view: AttackView) -> Section:
    rows = [(_LABELS[name], scores["bias_sign"].f1, view.baselines[name]) for name, scores in view.shown.items()]
    caption = "F1 of the sign rule at its own threshold; marks: guessing frequent words."
    return Section(
        "A sum hides who, not what",
        (
            "Scored on the words that anybody in the view typed. Sums of more people hold more of the vocabulary, so "
            "that guessing gets better, too; what the server names in a sum is still right.",
        ),
        (Figure(attack_plots.recovery_bars(rows), caption),),
        (_only_target_table(view),) if view.target_only else (),
    )


def _noise(view: AttackView) -> Section:
    noise = view.noise
    if not noise.curve:
        return Section("Noise", ("Too few people for a sum.",))
    levels, aucs = [p.multiplier for p in noise.curve], [p.auc for p in noise.curve]
    return Section(
        "Noise hides what",
        (
            f"A sum of {noise.clients} updates, each cut to the length {noise.clip_norm:.3g} (the clip norm), with "
            "random "
            "noise added. AUC: how often a typed word ranks above another; 0.5 is chance, 1 tells all.",
        ),
        (
            Figure(
                attack_plots.noise_curve(levels, aucs, _HIDDEN_AUC, noise.multiplier),
                "The best of the three rules at each level of noise, mean over the attacked people.",
            ),
        ),
    )


def _rules(view: AttackView) -> Section:
    def text(value: float, spread: Optional[float]) -> str:
        return f"{value:.3f}" if spread is None else f"{value:.3f} ± {spread:.3f}"

    rows = [
        (
            _LABELS[name],
            _RULES.get(rule, rule),
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            text(score.f1, score.f1_sd),
            f"{score.best_f1:.3f}",
            text(score.auc, score.auc_sd),
        )
        for name, rules in view.shown.items()
        for rule, score in rules.items()
    ]
    return Section(
        "All figures",
        ("Three published rules. Means over the attacked people; ± is the standard deviation between them.",),
        tables=(Table(("view", "rule", "precision", "recall", "F1", "F1, best threshold", "AUC"), tuple(rows)),),
    )

"""What an attack found, in words: the sentences, the labels and the tables that its section and its page share."""

from __future__ import annotations

from collections.abc import Iterator

from models.disclosure import MASKED
from orchestrator.audit.attack_results import HIDDEN_VIEWS, AttackResult
from orchestrator.report.parts import Figure, Table
from orchestrator.report.plots import attack as attack_plots
from orchestrator.units import count_text

_VIEW_LABELS = {
    "raw": "as it is",
    "masked": "masked",
    "encrypted": "encrypted",
    "split": "in the split sum",
    "noised": "sum with noise",
}
_NOISE_SOURCES = {
    "example": "this run adds none, and the view with noise shows what it would do.",
    "given": "the view with noise shows the level that was asked for.",
    "run": "the view with noise shows what this run adds to one round's sum.",
}
_SHOWN_WORDS = 10


def view_label(view: str) -> str:
    """Returns what people read for a view.

    >>> view_label("sum_30"), view_label("raw")
    ('sum of 30', 'as it is')
    """
    return _VIEW_LABELS.get(view) or f"sum of {view[len('sum_') :]}"


def what_was_done(result: AttackResult) -> str:
    """Returns the question that the attack answers, and on what."""
    count = len(result.clients)
    people = f"{count} people's phones" if count > 1 else "one person's phone"
    return (
        "The server that trains the model is curious: it follows the protocol, but looks at what it receives. After "
        f"round {result.round_num:,}, {people} each trained on {count_text(result.sentences, 'sentence')} of their own "
        "and sent the update. Which words can the server read from it?"
    )


def verdicts(result: AttackResult) -> tuple[str, ...]:
    """Returns what is protected and what is not, each with its figure."""
    points = [_unprotected(result), *_sentence_points(result)]
    points += _hidden_points(result)
    largest = result.largest_sum
    if largest is not None:
        only, scores = result.target_only[largest], result.shown[largest]
        points.append(
            "Not protected: that a word was typed by somebody. Secure sums and encryption hide who typed it, not the "
            f"word. In the {view_label(largest)}, {scores['bias_sign'].precision:.0%} of the words that the server "
            f"names were typed by somebody in it. Of the {only.words} words that only one person typed, "
            f"{only.readable} can be read."
        )
    if result.noise.hidden_from is not None:
        points.append(
            f"Only noise hides the words themselves: here from {result.noise.hidden_from:g} clip norms on. It costs "
            f"accuracy; {_NOISE_SOURCES[result.noise.source]}"
        )
    points += [f"{view_label(name)}: not shown, {reason}." for name, reason in result.reasons.items()]
    return tuple(points)


def _unprotected(result: AttackResult) -> str:
    best = max(result.shown["raw"].values(), key=lambda score: score.f1)
    return (
        f"Without protection, an update tells what was typed: the server names {best.recall:.0%} of the person's "
        f"words, and {best.precision:.0%} of the words that it names are right. Somebody who sees no update and names "
        f"as many of the most frequent words finds {result.baselines['raw']:.0%}."
    )


def _hidden_points(result: AttackResult) -> Iterator[str]:
    """What masks and encryption hide; not more than what chance explains, unless a check failed."""
    hidden = [result.shown[name] for name in HIDDEN_VIEWS if name in result.shown]
    if not hidden:
        return
    off = f"AUC at most {max(abs(score.auc - 0.5) for scores in hidden for score in scores.values()):.3f} away from 0.5"
    if all(check.ok for check in result.checks if check.standard_error is not None):
        yield (
            "Protected: a single person's update, masked or encrypted. From what the server then receives, it ranks "
            f"words no better than by chance ({off})."
        )
    else:
        yield (
            "NOT as it should be: from a masked or encrypted update, the server ranks words better or worse than by "
            f"chance ({off}, more than 3 standard errors)."
        )


def _sentence_points(result: AttackResult) -> Iterator[str]:
    for count, part in result.rebuilt.items():
        yield f"From an update of {count_text(int(count), 'sentence')}, {part.exact:.0%} are rebuilt word for word."


def strips(result: AttackResult, words: bool) -> Figure:
    """Returns the picture of the words that the server is surest of, a row a view; words: name the client."""
    rows = {
        view_label(name): [word.typed_by for word in words] for name, words in result.named.items() if words is not None
    }
    count = len(next(iter(rows.values())))
    caption = f"{_who(result, words)}: the {count} words that the server is surest of, view by view."
    return Figure(attack_plots.word_strips(rows), caption)


def _who(result: AttackResult, words: bool) -> str:
    return f"Client {result.clients[0]}" if words else "One client"


def words_table(result: AttackResult, words: bool) -> Table:
    """Returns the first words of the main views, with a mark for who typed each; words: those typed are not masked."""
    marks = {"client": "●", "other": "○", "nobody": "–"}
    views = ("raw", *HIDDEN_VIEWS, result.largest_sum, "noised")
    named = {name: found for name in views if name and (found := result.named.get(name))}
    columns = [[f"{marks[word.typed_by]} {word.word}" for word in found[:_SHOWN_WORDS]] for found in named.values()]
    hidden = "" if words else f" {MASKED} masks a word that somebody typed; the switch `--words` shows it."
    return Table(
        tuple(view_label(name) for name in named),
        tuple(zip(*columns)),
        f"The server's first {_SHOWN_WORDS} words. ● this client typed it, ○ somebody else in the sum typed it, "
        f"– nobody typed it.{hidden}",
        texts=True,
    )


def only_target_table(result: AttackResult) -> Table:
    """Returns how many words of one person alone can be read in each sum."""
    columns: tuple[str, ...] = ("", "words that one person alone typed", "of these readable")
    rows: list[tuple[str, ...]] = [
        (view_label(name), f"{only.words:,}", f"{only.readable:,}") for name, only in result.target_only.items()
    ]
    caption = f"Added up over {count_text(len(result.clients), 'attacked client')}."
    examples = [", ".join(only.examples[:8]) for only in result.target_only.values()]
    if any(examples):
        columns = (*columns, "some of them")
        rows = [(*row, some) for row, some in zip(rows, examples)]
        caption += f" The words in the last column are {result.clients[0]}'s."
    return Table(columns, tuple(rows), caption, texts=bool(any(examples)))

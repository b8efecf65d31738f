"""What `fedkeys attack`, `audit` and `transcript` find, as tables for people who read a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Optional

from orchestrator.audit.attack_results import HIDDEN_AUC, AttackResult, Score
from orchestrator.audit.leakage_results import AuditResult, Estimate, Exposure, OneRun, SummedScores
from orchestrator.audit.transcript_results import NUM_SHOWN, TranscriptResult, Upload
from orchestrator.cli.output import cell, new_table, screen
from orchestrator.settings.kinds import MECHANISM_TRAITS
from orchestrator.units import count_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_attack(result: AttackResult) -> None:
    """Prints what the server could tell, view by view, and what noise would hide."""
    console = screen()
    who = count_text(len(result.clients), "client")
    title = f"What the server of round {result.round_num + 1:,} could tell about {who}"
    columns = ("view", "rule", "precision", "recall", "F1", "best F1", "AUC", "guess F1")
    title += f", {count_text(result.sentences, 'sentence')} each"
    table = new_table(title, columns, texts=("view", "rule"))
    for view, rules in result.views.items():
        if rules is None:
            table.add_row(view, "not shown", *[""] * 6, end_section=True)
        else:
            _add_view(table, view, rules, result.baselines[view])
    console.print(table)
    console.print(
        "A sum is scored on the words of everybody in it. Guess: naming the most frequent words, as many as were typed."
    )
    for view, reason in result.reasons.items():
        console.print(f"{view} is not shown: {reason}")
    for view, only in result.target_only.items():
        words = count_text(only.words, "word")
        console.print(f"{view}: of {words} that only a target typed, {only.readable:,} can still be read")
    noise = result.noise
    if noise.hidden_from is not None:
        console.print(
            f"noise: AUC stays within {HIDDEN_AUC} from multiplier {noise.hidden_from:g} on (clip norm "
            f"{noise.clip_norm:.3g}, {count_text(noise.clients, 'client')}, one round)"
        )
    for count, part in result.rebuilt.items():
        console.print(
            f"raw update of {count_text(int(count), 'sentence')}, in order: {part.exact:.0%} rebuilt word for word, "
            f"{part.pair_recall:.0%} of adjacent pairs ({part.model_alone:.0%} by the model alone)"
        )
    for check in result.checks:
        console.print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.value:.3f}")


def _add_view(table: Table, view: str, rules: Mapping[str, Score], baseline: float) -> None:
    """A row a rule; the view's name and baseline stand in the first."""
    for i, (rule, score) in enumerate(rules.items()):
        table.add_row(
            "" if i else view,
            rule,
            *(f"{value:.3f}" for value in (score.precision, score.recall, score.f1, score.best_f1, score.auc)),
            "" if i else f"{baseline:.3f}",
            end_section=i == len(rules) - 1,
        )


def print_audit(result: AuditResult) -> None:
    """Prints bounds and estimates of epsilon, and how well the model remembers planted phrases."""
    console = screen()
    mechanism = f"{result.mechanism}, noise multiplier {result.noise_multiplier:.3g}"
    columns = ("epsilon", "of", "kind", "how")
    title = f"Audit after round {result.round_num:,}: {mechanism}, delta {result.delta:.2g}"
    table = new_table(title, columns, texts=columns)
    one_shot, whole = result.one_shot, result.whole_run
    fitted = _epsilon(one_shot.epsilon_fitted, "above 200")
    how = f"{count_text(one_shot.canaries, 'canary client')}; {fitted} with both spreads fitted"
    table.add_row(_epsilon(result.stated.run, "no limit"), "the run", "upper bound", "the ledger")
    both = result.stated.run_and_words
    if both is not None:
        what, from_where = "run and its other releases", f"ledgers, word list, start; at delta {both.delta:.3g}"
        table.add_row(_epsilon(both.epsilon, "no limit"), what, "upper bound", from_where)
    table.add_row(_epsilon(result.stated.one_round, "no limit"), "one round", "upper bound", "the noise multiplier")
    table.add_row(_epsilon(one_shot.epsilon, "above 200"), "one round", "estimate", how)
    if whole is not None:
        table.add_row(*_estimate_row(whole.all_releases, "all rounds' sums"))
        table.add_row(*_estimate_row(whole.final_model, "the model at the end"))
        _add_bounds(table, whole.one_run, whole.summed_scores, "the run")
    _add_bounds(table, result.one_run, result.summed_scores, "one round")
    console.print(table)
    if whole is None:
        console.print(f"the whole run: {result.whole_run_reason}")
    if result.exposure is None:
        console.print(f"planted phrases: {result.exposure_reason}")
    else:
        _print_exposure(console, result.exposure, result.round_num)


def _print_exposure(console: Console, exposure: Exposure, rounds: int) -> None:
    """Prints a row for each sort of phrase; rounds: of the run."""
    columns = ("secret phrase", "phrases", "mean exposure, bits", "most")
    table = new_table("", columns, texts=columns[:1])
    for name, part in exposure.rows:
        table.add_row(name, str(part.phrases), f"{part.mean:.1f}", f"{part.most:.1f}")
    console.print(table)
    console.print(
        "Estimates. A phrase that the model never saw has 1.4 bits on average; one that ranks first of all has "
        f"{exposure.most_possible:.0f}. {exposure.where(rounds)}".rstrip()
    )


def _estimate_row(estimate: Estimate, seen: str) -> tuple[str, ...]:
    low, high = (_epsilon(value, "above 200") for value in estimate.epsilon_interval)
    how = f"canary clients in training, by {seen}; {low} to {high} at 95%"
    return _epsilon(estimate.epsilon, "above 200"), "the run", estimate.kind, how


def _add_bounds(table: Table, guesses: OneRun, summed: Optional[SummedScores], of: str) -> None:
    """Adds a row for each lower bound: by the number of right guesses, and by the sum of their weights."""
    kind = f"lower bound, {guesses.confidence:.0%} each"
    how = f"{guesses.right} of {guesses.guesses} guesses right, {guesses.canaries} coin tosses"
    table.add_row(_epsilon(guesses.epsilon, ""), of, kind, how)
    if summed is not None:
        how = f"the same guesses, weighted: {summed.sum} of {summed.most}"
        table.add_row(_epsilon(summed.epsilon, ""), of, kind, how)
        how = f"{how}; if the guarantee is a Gaussian one"
        table.add_row(_epsilon(summed.epsilon_if_gaussian, ""), of, kind, how)


def _epsilon(value: Optional[float], otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3g}"


def print_transcript(result: TranscriptResult) -> None:
    """Prints one client's upload as the server of each aggregator receives it."""
    console = screen()
    uploads = result.uploads.values()
    title = cell(f"Client {result.client} in round {result.round_num:,}, as the server sees it")
    columns = ("", *result.uploads)
    table = new_table(title, columns, texts=columns)
    table.add_row("bytes", *(f"{upload.bytes:,}" for upload in uploads))
    table.add_row(
        "it begins with",
        *("\n".join(_beginning(upload)) for upload in uploads),
    )
    table.add_row(
        "loudest words", *(cell(_words_text(upload.loudest, result.typed) or "none to read") for upload in uploads)
    )
    table.add_row("bytes uniform?", *("\n".join(upload.uniform_bytes.in_words) for upload in uploads))
    correlations = (upload.correlation for upload in uploads)
    table.add_row(
        "correlation with plain", *("" if test is None else "\n".join(test.in_words) for test in correlations)
    )
    console.print(table)
    norm, noised = result.update_norm, " with its noise" if MECHANISM_TRAITS[result.mechanism].adds_noise else ""
    for line in (
        f"This run's aggregator is {result.aggregator}: that column is what its server received.",
        "Loudest words: those whose output bias the upload raises most. * = this client typed it; it typed "
        f"{result.typed_share:.1%} of the model's words.",
        f"A test fails if p is below {result.false_alarm_rate:g}; an upload that hides everything fails that often.",
        "Keys are fresh: masks and ciphertexts differ each time, the vector under them is the same.",
        f"Norm of the round's mean update: {_norm(norm.of_the_run)} in the run{noised}, "
        f"{_norm(norm.computed_again)} when computed again.",
    ):
        console.print(line)


def _beginning(upload: Upload) -> Iterable[str]:
    """Lines of the first words, or of the first bytes where the upload is not made of words."""
    if upload.first_words:
        return map(_signed, upload.first_words)
    return (upload.first_bytes[i : i + 8] for i in range(0, 8 * NUM_SHOWN, 8))


def _signed(word: int) -> str:
    return str(word - (word >> 31 << 32))


def _words_text(words: Sequence[str], typed: Sequence[str]) -> str:
    return "\n".join(f"{word} *" if word in typed else word for word in words)


def _norm(value: Optional[float]) -> str:
    return "unknown" if value is None else f"{value:.9g}"

"""Attack and audit for people who read a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from orchestrator.audit.attack import HIDDEN_AUC


def print_attack(figures: Mapping[str, Any]) -> None:
    """Prints what attack_run found, for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"What the server of round {figures['round_num'] + 1} could tell about {len(figures['clients'])} clients"
    table = Table(title=f"{title}, {figures['sentences']} sentences each")
    for column in ("view", "rule", "precision", "recall", "F1", "best F1", "AUC", "guessing F1"):
        table.add_column(column, justify="left" if column in ("view", "rule") else "right")
    for view, rules in figures["views"].items():
        if rules is None:
            table.add_row(view, figures["reasons"][view], *[""] * 6, end_section=True)
            continue
        for i, (rule, row) in enumerate(rules.items()):
            table.add_row(
                "" if i else view,
                rule,
                *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1", "best_f1", "auc")),
                "" if i else f"{figures['baselines'][view]:.3f}",
                end_section=i == len(rules) - 1,
            )
    console.print(table)
    console.print(
        "Of a sum: words typed by anybody in it. Guessing: naming the most frequent words, as many as were typed."
    )
    for view, words in figures["target_only"].items():
        console.print(
            f"{view}: of {words['words']} words that only a target typed, {words['readable']} can still be read"
        )
    noise = figures["noise"]
    if noise["hidden_from"] is not None:
        console.print(
            f"noise: AUC stays within {HIDDEN_AUC} from multiplier {noise['hidden_from']:g} on (clip norm "
            f"{noise['clip_norm']:.3g}, {noise['clients']} clients, one round)"
        )
    for count, part in figures["rebuilt"].items():
        console.print(
            f"raw update of {count} sentence(s), in order: {part['exact']:.0%} rebuilt word for word, "
            f"{part['pair_recall']:.0%} of adjacent pairs ({part['model_alone']:.0%} by the model alone)"
        )
    for check in figures["checks"]:
        console.print(f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {check['value']:.3f}", highlight=False)


def print_audit(figures: Mapping[str, Any]) -> None:
    """Prints what audit_run found, for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    mechanism = f"{figures['mechanism']}, noise multiplier {figures['noise_multiplier']:.3g}"
    table = Table(title=f"Audit after round {figures['round_num']}: {mechanism}, delta {figures['delta']:.2g}")
    for column in ("epsilon", "of", "kind", "how"):
        table.add_column(column)
    stated, one_shot = figures["stated"], figures["one_shot"]
    table.add_row(_epsilon(stated["run"], "no limit"), "the run", "upper bound", "the ledger")
    table.add_row(_epsilon(stated["one_round"], "no limit"), "one round", "upper bound", "the noise multiplier")
    table.add_row(
        _epsilon(one_shot["epsilon"], "above 200"),
        "one round",
        "estimate",
        f"{one_shot['canaries']} canary clients; {_epsilon(one_shot['epsilon_fitted'], 'above 200')} with both "
        "spreads fitted",
    )
    whole = figures["whole_run"]
    for name, seen in (("all_releases", "all rounds' sums"), ("final_model", "the model at the end")) if whole else ():
        part = whole[name]
        low, high = (_epsilon(value, "above 200") for value in part["epsilon_interval"])
        how = f"canary clients in training, by {seen}; {low} to {high} at 95%"
        table.add_row(_epsilon(part["epsilon"], "above 200"), "the run", part["kind"], how)
    if whole:
        table.add_row(*_bound_row(whole["one_run"], "the run"))
    table.add_row(*_bound_row(figures["one_run"], "one round"))
    console.print(table)
    if whole is None:
        console.print(f"the whole run: {figures['whole_run_reason']}")
    found = figures["exposure"]
    if found is None:
        console.print(f"planted phrases: {figures['exposure_reason']}")
        return
    for repeats, part in found["by_repeats"].items():
        if part is not None:
            console.print(
                f"phrase typed {repeats} times: exposure {part['mean']:.1f} bits on average, at most "
                f"{part['most']:.1f} of "
                f"{found['most_possible']:.0f}, {part['phrases']} phrases (estimate)"
            )
    control = found["never_took_part"]
    if control is not None:
        console.print(f"of people who took part in no round: {control['mean']:.1f} bits, {control['phrases']} phrases")
    console.print("1.4 bits is what a phrase has that the model never saw.")


def _bound_row(bound: Mapping[str, Any], of: str) -> tuple[str, ...]:
    return (
        _epsilon(bound["epsilon"], ""),
        of,
        f"lower bound, {bound['confidence']:.0%}",
        f"{bound['right']} of {bound['guesses']} guesses right, {bound['canaries']} coin tosses",
    )


def _epsilon(value: Optional[float], otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3g}"

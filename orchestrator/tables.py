"""Figures as tables for people who read a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from rich.console import Console
from rich.table import Table

_LABELS = {
    "model": "federated model",
    "mixed": "mixed with the trigram",
    "trigram": "trigram, pooled text",
    "bigram": "bigram, pooled text",
    "unigram": "unigram, pooled text",
}


def print_comparison(figures: Mapping[str, Any]) -> None:
    """Prints what `fedkeys evaluate` found."""
    console = Console()
    people = f"{figures['clients']} people never seen in training, {figures['positions']:,} words"
    table = Table(title=f"{people}, after round {figures['round_num']}")
    for column in ("", "top-1", "95 %", "top-3", "nats", "per person"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in _LABELS.items():
        row = figures[name]
        interval, mean = row["top1_interval"], row["top1_per_client_mean"]
        table.add_row(
            label,
            f"{row['top1']:.2%}",
            "" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f} %",
            f"{row['top3']:.2%}",
            f"{row['loss_nats_per_token']:.3f}",
            "" if mean is None else f"{mean:.2%}",
            style="bold" if name == "model" else None,
        )
    console.print(table)
    console.print("top-1 and top-3 recall; 95 %: interval over people; nats a word; per person: mean top-1 over people")
    for name in ("model", "mixed"):
        console.print(
            f"{_LABELS[name]} minus trigram: {100 * figures[name]['top1_minus_trigram']:+.2f} points"
            + _over_people(figures[name]["top1_minus_trigram_interval"])
        )
    console.print(
        f"words outside the vocabulary: {figures['oov_rate']:.2%}, counted apart"
        f" (top-1 over all words: {figures['model']['top1_of_all_words']:.2%});"
        f" share of the model in the mixture: {figures['mixed']['model_weight']} (picked on dev people)"
    )
    personal = figures.get("personalised")
    if personal:
        console.print(
            f"fine-tuned for {personal['clients']} people: top-1 {personal['before']['top1']:.2%} ->"
            f" {personal['after']['top1']:.2%} on their later text, {100 * personal['top1_gain']:+.2f} points"
            f"{_over_people(personal['top1_gain_interval'])};"
            f" {personal['share_better']:.0%} better, {personal['share_worse']:.0%} worse"
            f"; without the one who gains most {100 * personal['top1_gain_of_others']:+.2f}"
            f" ({personal['setting']}; picked on dev people)"
        )


def _over_people(interval: Optional[Sequence[float]]) -> str:
    if interval is None:
        return ""
    return f" (95 % over people: {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f})"


def print_predictions(examples: Sequence[Mapping[str, Any]]) -> None:
    """Prints some contexts with the next words."""
    console = Console()
    for example in examples:
        words = ", ".join(f"{p['word']} {p['probability']:.0%}" for p in example["predictions"])
        console.print(f"  {example['text']} [bold]...[/bold] {words}", highlight=False)

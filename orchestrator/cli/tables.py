"""Prints what a run scored and cost as tables for people who read a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from rich.console import Console

from orchestrator.cli.output import cell, new_table, screen
from orchestrator.evaluation.costs import ROLES, Costs, NotSummed, together
from orchestrator.evaluation.device_costs import OnPhones
from orchestrator.evaluation.results import Evaluation, Example, Personalised
from orchestrator.units import count_text, duration_text, size_text


def print_comparison(figures: Evaluation) -> None:
    """Prints what `fedkeys evaluate` found."""
    console = screen()
    people = f"{count_text(figures.clients, 'person')} never seen in training, {count_text(figures.positions, 'word')}"
    title = f"{people}, after round {figures.round_num:,}"
    table = new_table(title, ("", "top-1", "95 %", "top-3", "nats", "per person"))
    for name, score in figures.scores.items():
        interval, mean = score.top1_interval, score.top1_per_client_mean
        table.add_row(
            figures.labels[name],
            f"{score.top1:.2%}",
            "" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f} %",
            f"{score.top3:.2%}",
            f"{score.loss_nats_per_token:.3f}",
            "" if mean is None else f"{mean:.2%}",
            style="bold" if name == "model" else None,
        )
    console.print(table)
    console.print("top-1 and top-3 recall; 95 %: interval over people; nats a word; per person: mean top-1 over people")
    for name, compared in (("model", figures.model), ("mixed", figures.mixed)):
        console.print(
            f"{figures.labels[name]} minus {figures.best_label}: {100 * compared.lead:+.2f} points"
            + _over_people(compared.lead_interval)
        )
    private = figures.private_ngram
    if private is not None:
        console.print(
            f"{figures.labels['model']} minus the private n-gram: {100 * private.model_minus_ngram:+.2f} points"
            f"{_over_people(private.model_minus_ngram_interval)}; the n-gram spent epsilon {private.epsilon:.4g} at"
            f" delta {private.delta:.3g} of its own; share of the model in the mixture with it: {private.model_weight}"
        )
    console.print(
        f"words outside the vocabulary: {figures.oov_rate:.2%}, counted apart"
        f" (top-1 over all words: {figures.model.top1_of_all_words:.2%});"
        f" share of the model in the mixture: {figures.mixed.model_weight} (picked on dev people)"
    )
    if figures.fine_tuning is not None:
        _print_personalised(console, figures.fine_tuning)


def _print_personalised(console: Console, personal: Personalised) -> None:
    console.print(
        f"fine-tuned for {count_text(personal.clients, 'person')}: top-1 {personal.before.top1:.2%} ->"
        f" {personal.after.top1:.2%} on their later text, {100 * personal.top1_gain:+.2f} points"
        f"{_over_people(personal.top1_gain_interval)};"
        f" {personal.share_better:.0%} better, {personal.share_worse:.0%} worse"
        f" ({personal.setting}; picked on dev people)"
    )
    cache = personal.cache
    if cache is not None:
        console.print(
            f"the best n-gram with {cache.own_share:.0%} of each person's own earlier words: top-1"
            f" {cache.score.top1:.2%} there; fine-tuned minus that: {100 * cache.tuned_minus_cache:+.2f} points"
            f"{_over_people(cache.tuned_minus_cache_interval)}"
        )


def _over_people(interval: Optional[Sequence[float]]) -> str:
    if interval is None:
        return ""
    return f" (95 % over people: {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f})"


def print_predictions(examples: Sequence[Example]) -> None:
    """Prints some contexts with the next words."""
    console = screen()
    for example in examples:
        words = ", ".join(f"{p.word} {p.probability:.0%}" for p in example.predictions)
        console.print(cell(f"  {example.text} ... {words}"))


_WHO = {"per_client": "a client", "server": "the server", "decryptor": "the decryptor", "helpers": "the helpers"}


def print_costs(costs: Costs) -> None:
    """Prints what read_costs found, for people."""
    console = screen()
    rounds = f"mean of {count_text(costs.rounds, 'completed round')} of {count_text(costs.cohort, 'client')}"
    columns = ("", "stage", "sent", "received", "CPU")
    table = new_table(f"{costs.aggregator}: {rounds}", columns, texts=("", "stage"))
    for role in ROLES:
        stages = getattr(costs, role)
        if stages:
            stages = {**stages, "together": together(stages)}
        for place, (stage, cost) in enumerate(stages.items()):
            last = stage == "together"
            row = (size_text(cost.bytes_up), size_text(cost.bytes_down), _cpu_text(cost.cpu_s))
            label = "" if place else _WHO[role]
            table.add_row(label, stage.replace("_", " "), *row, style="bold" if last else None, end_section=last)
    console.print(table)
    console.print(
        f"A vector is {size_text(costs.vector_bytes)}. Not in the bill, and the same for each aggregator: the "
        f"model that a client receives before it trains, {size_text(costs.model_bytes)}.",
    )
    _print_same_vector(console, costs)
    _print_on_phones(console, costs.on_phones, list(costs.measured))


def _print_same_vector(console: Console, costs: Costs) -> None:
    title = f"Measured now: {count_text(costs.cohort, 'random vector')} of that length, nobody drops out"
    table = new_table(title, ("", *costs.measured))
    bills = list(costs.measured.values())
    clients = [together(bill.per_client) for bill in bills]
    table.add_row("a client sends", *(size_text(client.bytes_up) for client in clients))
    table.add_row("  times the vector", *(f"{client.bytes_up / costs.vector_bytes:.4f}" for client in clients))
    table.add_row("a client receives", *(size_text(client.bytes_down) for client in clients))
    for role in ROLES:
        seconds = (together(getattr(bill, role)).cpu_s for bill in bills)
        table.add_row(f"CPU of {_WHO[role]}", *map(_cpu_text, seconds))
    console.print(table)
    for name, bill in costs.same_vector.items():
        if isinstance(bill, NotSummed):
            console.print(f"{name}: not possible here: {bill.error}")


def _print_on_phones(console: Console, on_phones: OnPhones, names: Sequence[str]) -> None:
    title = "Estimated on phones: what a client's part of such a sum takes"
    table = new_table(title, ("", "receive\nthe model", *names))
    for access, seconds in on_phones.model_s.items():
        own = (duration_text(on_phones.transfer_s[name][access]) for name in names)
        table.add_row(f"transfer over {access}", duration_text(seconds), *own)
    table.add_section()
    for tier in on_phones.slowdown:
        own = (duration_text(on_phones.cpu_s_at_most[name][tier]) for name in names)
        table.add_row(f"CPU at most, {tier}", "", *own)
    console.print(table)
    console.print(
        "Transfer at the median speed of each network (China and worldwide, 2020 and 2021). CPU: the time here, times "
        "how much longer that phone took to train Gboard's model than its arithmetic takes here: a bound from far "
        "above, since that training used a slow framework and most phones encrypt by instructions made for it.",
    )


def _cpu_text(seconds: float) -> str:
    """CPU seconds, three digits; nothing for 0: none was needed, or nobody here could count it."""
    if not seconds:
        return ""
    return f"{1000 * seconds:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"

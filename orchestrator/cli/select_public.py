"""`fedkeys select-public`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.ngram import pair_words
from orchestrator.cli.output import Output, note, prints, say
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.run.public_text import Choice
    from orchestrator.settings.types import Setting

_PAIR_WORDS = 1000
_KEEP = 0.25


@click.command()
@click.option(
    "--out",
    type=options.FOLDER,
    required=True,
    metavar="DIR",
    help="Where the choice goes: a free folder, or one of an earlier choice, whose counts it takes.",
)
@options.PUBLIC_TEXTS
@options.LICENCE
@click.option(
    "--epsilon",
    type=options.Number(0, min_open=True),
    required=True,
    metavar="E",
    help="What the counts cost each person; a run that begins with the start adds it to its own.",
)
@click.option(
    "--delta",
    type=options.Number(0, 1, min_open=True, max_open=True),
    metavar="D",
    help="The delta at which epsilon holds; people^-1.1 by default.",
)
@pair_words(_PAIR_WORDS)
@click.option(
    "--keep",
    type=options.Number(0, 1, min_open=True),
    default=_KEEP,
    show_default=True,
    metavar="SHARE",
    help="Choose this share of the public words.",
)
@options.CONFIG
@options.PRESET
@options.takes_settings(options.DATA, options.SEED, options.AGGREGATOR)
@prints
def select_public(
    out: Path,
    texts: tuple[Path, ...],
    licence: Optional[str],
    epsilon: float,
    delta: Optional[float],
    pair_words: int,
    keep: float,
    config_path: Optional[Path],
    preset: Optional[str],
    overrides: dict[str, Setting],
) -> Output:
    """Choose the public text that is most like what people type; `fedkeys pretrain --text DIR` trains on it.

    Everybody who trains adds one vector of counts of words and pairs of words to one sum, by the aggregator, under
    noise: at --epsilon, charged on a ledger in --out. The server takes the public sentences that are likelier by these
    counts than in the public text itself. Other --keep and --text choose anew from the same counts, at no further cost.

    \b
    Example:
      fedkeys select-public --out runs/choice --text public.txt --licence CC0-1.0 --epsilon 1 --preset private
      fedkeys pretrain --out runs/near --text runs/choice --preset private
      fedkeys train --run runs/nearer --preset private --set model.start=runs/near
    """
    from orchestrator.run.public_choice import ChoiceRule, choose_public_text
    from orchestrator.settings.files import read_config

    public = {"data.vocabulary": "public"} if config_path is None else {}
    config = read_config(config_path, preset, {**public, **overrides})
    rule = ChoiceRule(epsilon, delta, pair_words, keep)
    choice = choose_public_text(out, texts, licence, config, rule, note)
    return Output(choice, partial(_show, out, choice))


def _show(out: Path, choice: Choice) -> None:
    people = choice.people
    say(
        f"{out}: {count_text(choice.sentences, 'sentence')} of {choice.of_sentences:,}, with {choice.tokens:,} of "
        f"{choice.of_tokens:,} words"
    )
    say(f"noisy counts of {people.name} chose them: epsilon {people.epsilon:.4g} at delta {people.delta:.3g}")

"""`fedkeys pretrain`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import Output, note, prints, say
from orchestrator.run.pretraining import MOST_OVERLAP
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.run.pretrained import Pretrained
    from orchestrator.settings.types import Setting


@click.command()
@click.option("--out", type=options.FOLDER, required=True, metavar="DIR", help="Where the start goes; a free folder.")
@options.PUBLIC_TEXTS
@options.LICENCE
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the text.")
@click.option(
    "--most-overlap",
    type=options.Number(0.0, 1.0),
    default=MOST_OVERLAP,
    show_default=True,
    metavar="SHARE",
    help="Refuse a text that holds more than this share of the test people's sentences.",
)
@options.CONFIG
@options.PRESET
@options.takes_settings(options.DATA, options.SEED)
@prints
def pretrain(
    out: Path,
    texts: tuple[Path, ...],
    licence: Optional[str],
    epochs: int,
    most_overlap: float,
    config_path: Optional[Path],
    preset: Optional[str],
    overrides: dict[str, Setting],
) -> Output:
    """Train a start on public text in one place; `fedkeys train --set model.start=DIR` begins with it.

    The words are the public list's unless data.vocabulary names a file. Model and tokeniser are those of the settings.
    The test people of --data are typed text that nothing is learnt from: how many of their sentences the public text
    holds is measured, and how well the start alone predicts what they typed.

    \b
    Example:
      fedkeys pretrain --out runs/start --text public.txt --licence CC0-1.0
      fedkeys train --run runs/public --set model.start=runs/start
    """
    from orchestrator.run.pretraining import pretrain as pretrain_into
    from orchestrator.settings.files import read_config

    public = {"data.vocabulary": "public"} if config_path is None else {}
    config = read_config(config_path, preset, {**public, **overrides})
    model = pretrain_into(out, texts, licence, config, epochs, most_overlap, note)
    return Output(model, partial(_show, out, model))


def _show(out: Path, model: Pretrained) -> None:
    names = ", ".join(f"{text.name} ({text.licence})" for text in model.texts if text.licence)
    for people in (text for text in model.texts if text.epsilon is not None):
        say(f"noisy counts of {people.name} chose the text: epsilon {people.epsilon:.4g} at delta {people.delta:.3g}")
    say(f"{out}: {count_text(model.tokens, 'word')} of {names}, {count_text(model.epochs, 'epoch')}")
    test = model.test
    say(
        f"alone it proposes {test.top1:.2%} of the words of {count_text(test.clients, 'test person')} first, "
        f"{test.top3:.2%} among three; {test.loss_nats_per_token:.3f} nats a word"
    )

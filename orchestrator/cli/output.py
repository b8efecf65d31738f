"""How commands print: figures once as JSON and once for people, notes and warnings on standard error."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Union

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Control characters but the line feed, characters that turn the direction of a line, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Output:
    """What a command found, in both of its forms.

    figures: the object that --json prints: a struct, a dataclass or a dict.
    show: prints the same for people.
    exit_code: what the program ends with after it has printed.
    fault: the line on standard error that says why; empty if there is nothing to say.
    then: writes what is drawn from the figures, once these are printed; whatever goes wrong there, they are not lost.
    """

    figures: object
    show: Callable[[], None]
    exit_code: int = 0
    fault: str = ""
    then: Callable[[], None] = lambda: None

    def tell(self) -> None:
        """Prints the figures for people, then writes what is drawn from them."""
        self.show()
        self.then()


def prints(function: Callable[..., Output]) -> Callable[..., None]:
    """Adds --json to a function that returns an Output, and prints what it returns in the one form or the other."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
    @functools.wraps(function)
    def run(*args: object, as_json: bool, **options: object) -> None:
        output = function(*args, **options)
        if as_json:
            print_json(output.figures)
        else:
            output.show()
        if output.fault:
            click.echo(f"fedkeys: {printable(output.fault)}", err=True)
        output.then()
        if output.exit_code:
            sys.exit(output.exit_code)

    return run


def print_json(figures: object) -> None:
    """Prints one JSON object on standard output."""
    import msgspec

    click.echo(msgspec.json.encode(figures).decode())


def print_figures(figures: object) -> None:
    """Prints a line for each field of a struct, a dataclass or a dict."""
    import msgspec

    for name, value in msgspec.to_builtins(figures).items():
        texts = [f"{key} {_number(item)}" for key, item in value.items()] if isinstance(value, dict) else None
        say(f"{name:24} {_number(value) if texts is None else '  '.join(texts)}")


def _number(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def json_wanted() -> bool:
    """Returns whether the command that runs was called with --json."""
    return bool(click.get_current_context().params.get("as_json"))


def say(text: str) -> None:
    """Prints a line for people on standard output."""
    click.echo(printable(text))


def say_at_once(text: str) -> None:
    """Prints a line for people before the command is over; with --json nothing, since that prints one object only."""
    if not json_wanted():
        say(text)


def note(text: str) -> None:
    """Says on standard error that something begins that takes a while."""
    click.echo(f"{printable(text)} ...", err=True)


def log(text: str) -> None:
    """Prints a line on standard error: what a process that listens has to say."""
    click.echo(printable(text), err=True)


def silence_grpc() -> None:
    """Keeps gRPC from printing each TLS handshake that fails: a stranger could fill a log. Called before its import."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def wrote(path: object) -> None:
    """Says on standard error that a command wrote a file besides its figures."""
    click.echo(f"wrote {printable(str(path))}", err=True)


def warn(text: str) -> None:
    """Prints a warning on standard error."""
    click.secho(printable(text), err=True, bold=True, fg="yellow")


def printable(text: str) -> str:
    r"""Returns a text whose control characters are written out, so that they can't move or colour a terminal.

    >>> print(printable("ann\x1b[31m\nbob"))
    ann\x1b[31m
    bob
    """
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def cell(text: object, style: str = "") -> Text:
    """Returns a cell, a title or a line of a table that shows the text as it is: rich reads no markup in it."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def new_table(title: Union[str, Text], columns: Sequence[str], texts: Collection[str] = ("",)) -> Table:
    """Returns an empty table that cuts nothing off, however narrow the terminal is.

    Args:
      title: above it; empty for none.
      columns: their names; figures stand to the right.
      texts: those of the columns that hold words and stand to the left.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(cell(column), justify="left" if column in texts else "right", overflow="fold")
    return table


def screen() -> Console:
    """Returns standard output for tables. Texts that are printed on it are taken as they are, too."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)

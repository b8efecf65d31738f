"""The commands of fedkeys as rows. A command's module is imported when the command is called, so --help is quick.

To add a command, write it in a module of orchestrator/cli, where `prints` (orchestrator/cli/output.py) gives it --json,
and add its row to the group that people will look for it in.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Optional

import click
from click.shell_completion import CompletionItem

GROUPS = {
    "start": "Start here",
    "train": "Train a model",
    "look": "Look at a text or a run",
    "phone": "Bring a model to phones",
    "privacy": "Ask what a run gives away",
    "serve": "Run rounds between machines",
    "record": "Answer for a run",
}


@dataclass(frozen=True)
class CommandRow:
    """A command. group: a key of GROUPS; place: "module:function" below orchestrator.cli; sentence: what it does."""

    name: str
    group: str
    place: str
    sentence: str


_ROWS = (
    CommandRow("doctor", "start", "machine:doctor", "Check that this machine can run fedkeys."),
    CommandRow("demo", "start", "demo:demo", "Train, evaluate, attack, export and report in one go."),
    CommandRow("config", "start", "machine:config", "Print every setting with its meaning and its default."),
    CommandRow("help", "start", "commands:help_", "Show the help of a command."),
    CommandRow("train", "train", "training:train", "Train a model in federated rounds."),
    CommandRow("pretrain", "train", "pretrain:pretrain", "Train a start on public text, for trainings to begin with."),
    CommandRow(
        "select-public", "train", "select_public:select_public", "Choose public text that is like what people type."
    ),
    CommandRow("vocabulary", "train", "vocabulary:vocabulary", "Find a word list without reading anybody's text."),
    CommandRow("worker", "train", "machine:worker", "Run a TFF worker for a training on another machine."),
    CommandRow("data", "look", "look:data", "Show what a text holds."),
    CommandRow("evaluate", "look", "look:evaluate", "Score a run on people it never saw, beside n-gram models."),
    CommandRow("predict", "look", "look:predict", "Show the likeliest next words after a text."),
    CommandRow("fairness", "look", "fairness:fairness", "Show whom a run serves well and whom badly."),
    CommandRow("costs", "look", "look:costs", "Show what the secure sum of a run costs."),
    CommandRow("report", "look", "look:report", "Write one page with everything that is known of a run."),
    CommandRow("export", "phone", "edge:export", "Write a bundle of models that train and predict on a phone."),
    CommandRow("verify", "phone", "edge:verify", "Check that a bundle is complete, unchanged and signed."),
    CommandRow("parity", "phone", "edge:parity", "Compare the training of a bundle with that of TFF."),
    CommandRow("benchmark", "phone", "edge:benchmark", "Time a bundle's training and predicting on this machine."),
    CommandRow("device-update", "phone", "devices:device_update", "Train on one person's text as a phone does."),
    CommandRow("aggregate", "phone", "devices:aggregate", "Run a round on the updates that devices wrote."),
    CommandRow("fleet", "phone", "fleet:fleet", "Plan the rounds of a simulated fleet of phones."),
    CommandRow("ngram", "privacy", "ngram:ngram", "Release a noisy n-gram of a private run: its baseline."),
    CommandRow("privacy", "privacy", "privacy:privacy", "Show the epsilon of a run, and what it rests on."),
    CommandRow("attack", "privacy", "audit:attack", "Show which words a curious server can read."),
    CommandRow("audit", "privacy", "audit:audit", "Measure how much a release gives away."),
    CommandRow("transcript", "privacy", "audit:transcript", "Show what the server saw of one client."),
    CommandRow("keygen", "serve", "keys:keygen", "Make the keys of bundles and servers, and enrol clients."),
    CommandRow("enrol", "serve", "keys:enrol", "Make a client's keys, and a request to be enrolled."),
    CommandRow("serve", "serve", "server:serve", "Serve the rounds of a run to clients, over TLS."),
    CommandRow("client", "serve", "client:client", "Take part in a server's rounds with one person's text."),
    CommandRow("phone-demo", "serve", "phone_demo:phone_demo", "Take part in secure rounds with your own phone."),
    CommandRow("decryptor", "serve", "parties:decryptor", "Hold the key of the encrypted sum."),
    CommandRow("helper", "serve", "parties:helper", "Add up the masks of the split sum."),
    CommandRow("forget", "record", "forget:forget", "Train a run anew without one person, and state it."),
    CommandRow("replay", "record", "record:replay", "Compute a round again, and compare it bit for bit."),
    CommandRow("card", "record", "record:card", "Write the model card and a signed statement of origin."),
)
COMMANDS = {row.name: row for row in _ROWS}


class LazyGroup(click.Group):
    """The group of COMMANDS, as click's documentation builds a group that loads its commands when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of the rows."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """Imports a command; None if there is none of that name."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, function = row.place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"orchestrator.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        """Finds the command that the arguments name. Raises UsageError with the nearest name if there is none."""
        name = args[0]
        if not name.startswith("-"):
            require_command(name, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands group by group, without importing one."""
        width = max(map(len, COMMANDS))
        for group, title in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(row.name.ljust(width), row.sentence) for row in COMMANDS.values() if row.group == group]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes the names of commands, without importing one, and the options of fedkeys itself."""
        rows = [row for row in COMMANDS.values() if row.name.startswith(incomplete)]
        names = [CompletionItem(row.name, help=row.sentence) for row in rows]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def require_command(name: str, ctx: click.Context) -> None:
    """Raises UsageError, with the nearest name, if there is no command of that name."""
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {near[0]}?" if near else "`fedkeys --help` lists them"
        raise click.UsageError(f"there is no command {name}: {advice}", ctx)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fedkeys")
def cli() -> None:
    """Train a keyboard's next-word model on what people type, without collecting what they type.

    \b
    A first run, from start to end:
      fedkeys doctor                                  # is this machine ready?
      fedkeys train --run runs/first --preset smoke   # about a minute
      fedkeys evaluate --run runs/first               # beside n-gram models that saw all the text
      fedkeys predict --run runs/first "have a good"  # the next words
      fedkeys report --run runs/first                 # one page with all of this
    """


def _complete_command(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(incomplete)]


@click.command("help")
@click.argument("command", required=False, shell_complete=_complete_command)
@click.pass_context
def help_(ctx: click.Context, command: Optional[str]) -> None:
    """Show the help of COMMAND, as `fedkeys COMMAND --help` does; without COMMAND, list all commands.

    \b
    Example:
      fedkeys help train
    """
    parent = ctx.parent
    assert parent is not None  # click calls it as a command of the group
    if command is None:
        click.echo(parent.get_help())
        return
    require_command(command, parent)
    found = cli.get_command(parent, command)
    assert found is not None  # it was required
    with click.Context(found, parent=parent, info_name=command) as context:
        click.echo(found.get_help(context))

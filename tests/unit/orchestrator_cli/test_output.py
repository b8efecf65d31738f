"""What reaches the terminal: one JSON object, tables that no name can break, one line for what goes wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from orchestrator.cli import app
from orchestrator.cli.commands import cli
from orchestrator.cli.fleet_tables import print_policies
from orchestrator.cli.output import Output, cell, print_figures, printable, prints, say, say_at_once
from orchestrator.cli.tables import print_predictions
from orchestrator.errors import PrivacyStop
from orchestrator.evaluation.results import Example, Prediction

NASTY = "[bold red]ann[/] :smile: \x1b[31m\x07\u202e"
SHOWN = r"[bold red]ann[/] :smile: \x1b[31m\x07\u202e"


class Figures(msgspec.Struct):
    rounds: int
    loss: float


@dataclass
class OtherFigures:
    rounds: int
    loss: float


def command_of(output):
    """A command that says something at once and returns the output."""

    @click.command()
    @prints
    def command():
        say_at_once("first")
        return output

    return command


@pytest.mark.parametrize(
    "figures", [Figures(3, 0.5), OtherFigures(3, 0.5), {"rounds": 3, "loss": 0.5}], ids=["struct", "dataclass", "dict"]
)
def test_json_is_one_object_and_else_it_is_shown(figures):
    command = command_of(Output(figures, lambda: print_figures(figures)))
    done = CliRunner().invoke(command, ["--json"])
    assert json.loads(done.stdout) == {"rounds": 3, "loss": 0.5}
    assert CliRunner().invoke(command).stdout == f"first\n{'rounds':24} 3\n{'loss':24} 0.5\n"


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_fault_is_said_last_and_sets_the_exit_code(flags):
    done = CliRunner().invoke(command_of(Output({}, lambda: None, exit_code=3, fault="it is off")), flags)
    assert (done.exit_code, done.stderr) == (3, "fedkeys: it is off\n")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_picture_that_can_not_be_drawn_loses_no_figure(flags):
    def draw():
        raise OSError("no space left")

    output = Output({"rounds": 3}, lambda: say("3 rounds"), then=draw)
    done = CliRunner().invoke(command_of(output), flags)
    assert isinstance(done.exception, OSError)
    assert done.stdout.splitlines()[-1] in ("3 rounds", '{"rounds":3}')


def test_figures_in_figures_are_one_line():
    stream = CliRunner().invoke(
        command_of(Output({}, lambda: print_figures({"tokens_per_client": {"p10": 1.0, "p50": 23456.7}})))
    )
    assert stream.stdout.splitlines()[1] == f"{'tokens_per_client':24} p10 1  p50 2.346e+04"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ann", "ann"),
        ("a\nb", "a\nb"),
        ("Zoë 😀", "Zoë 😀"),
        ("a\tb\r", r"a\tb\r"),
        ("\x9b31m", r"\x9b31m"),
        (NASTY, SHOWN),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_a_cell_shows_its_text_as_it_is():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=100)
    table = Table(title=cell(NASTY))
    table.add_column(cell(NASTY))
    table.add_row(cell(NASTY))
    console.print(table)
    console.print(cell(NASTY))
    assert stream.getvalue().count(SHOWN) == 4
    assert "\x1b[31m" not in stream.getvalue()


def test_a_line_shows_its_text_as_it_is(capsys):
    say(NASTY)
    assert capsys.readouterr().out == f"{SHOWN}\n"


def test_the_table_of_policies_shows_a_name_as_it_is(capsys):
    policy = {
        "aggregator": "secagg",
        "rounds": 2,
        "round_s": {"p50": 1.0},
        "updates_per_hour": 3.0,
        "drop_out_rate": 0.1,
        "bytes_per_update": 1e6,
    }
    print_policies({"hours": 24, "policies": {NASTY: policy}})
    assert "[bold red]ann[/]" in " ".join(capsys.readouterr().out.split())


def test_a_context_and_its_suggestions_are_shown_as_they_are(capsys):
    print_predictions([Example(f"[b]see{NASTY}", (Prediction("[/b]", 0.42),))])
    assert " ".join(capsys.readouterr().out.split()) == f"[b]see{SHOWN} ... [/b] 42%"


def main(monkeypatch, error):
    """Ends `fedkeys` with an error of the command, and returns the exit code."""

    def fail(context):
        raise error

    monkeypatch.setattr(sys, "argv", ["fedkeys", "config"])
    monkeypatch.setattr(cli, "invoke", fail)
    with pytest.raises(SystemExit) as stop:
        app.main()
    return stop.value.code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("one\ntwo"), 1, "this is a bug: ValueError: one two (set FEDKEYS_TRACEBACK=1 to see where)"),
        (PrivacyStop("the budget of \x1b[31m is spent"), 3, r"the budget of \x1b[31m is spent"),
        (FileNotFoundError(2, "No such file or directory", "x.toml"), 2, "No such file or directory (x.toml)"),
    ],
)
def test_what_goes_wrong_is_one_line(monkeypatch, capsys, error, code, line):
    monkeypatch.delenv("FEDKEYS_TRACEBACK", raising=False)
    assert main(monkeypatch, error) == code
    assert capsys.readouterr().err == f"fedkeys: {line}\n"


def test_a_traceback_can_be_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("FEDKEYS_TRACEBACK", "1")
    assert main(monkeypatch, ValueError("one")) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "in fail" in said


def test_an_interrupt_ends_with_130(monkeypatch, capsys):
    assert main(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped; a run goes on with --resume\n"


@pytest.mark.parametrize("words", ["config", "--help", "help train", "fleet --hours 1 --devices 3000"])
def test_a_closed_pipe_ends_quietly(words):
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()  # as `| true` does: nobody reads even the first line
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "Error" not in said
    assert "Exception" not in said

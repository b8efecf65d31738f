"""The rows of commands: each can be called, says what it does, and is imported only when it is called."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli.commands import COMMANDS, GROUPS, cli

ROOT = Path(__file__).resolve().parents[3]


def fedkeys(*arguments, environment=None):
    """Calls a command in this process, as the console script does but for its exit codes."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env=environment, prog_name="fedkeys")


def test_help_imports_no_command_and_nothing_heavy():
    code = (
        "import sys; sys.argv = ['fedkeys', '--help']\n"
        "from orchestrator.cli.app import main\n"
        "try: main()\n"
        "finally: print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert "orchestrator.cli.commands" in imported
    assert not imported & {"tensorflow", "tensorflow_federated", "numpy", "scipy", "matplotlib", "rich", "msgspec"}
    rooms = {name for name in imported if name.startswith("orchestrator.cli.")}
    assert rooms == {"orchestrator.cli.app", "orchestrator.cli.commands", "orchestrator.cli.output"}


def test_help_lists_each_command_under_its_group():
    lines = fedkeys("--help").output.splitlines()
    group, listed = "", {}
    for line in lines[lines.index(f"{GROUPS['start']}:") :]:
        if line.endswith(":") and not line.startswith(" "):
            group = line[:-1]
        elif line.strip():
            listed[line.split()[0]] = group
    assert listed == {row.name: GROUPS[row.group] for row in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_teaches(name):
    row = COMMANDS[name]
    assert row.sentence[0].isupper()
    assert row.sentence.endswith(".")
    assert len(row.sentence) <= 62  # one line of 80 columns, beside the name
    command = cli.get_command(click.Context(cli), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    done = fedkeys("help", name)
    assert done.exit_code == 0
    assert done.output == fedkeys(name, "--help").output
    assert f"fedkeys {name}" in done.output.partition("Example")[2].split("Options:")[0], "no example of itself"
    assert all(param.help for param in command.params if isinstance(param, click.Option)), "an option without help"
    assert mistakes_in_examples(done.output) == []


def mistakes_in_examples(help_text):
    """What scripts/check_docs.py finds wrong with the `fedkeys` lines above the options of a command's help."""
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    check_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_docs)
    examples = re.findall(r"^ {4}(fedkeys .*?)(?: {2,}#.*)?$", help_text.partition("Example")[2], re.MULTILINE)
    assert examples
    return [mistake for line in examples for mistake in check_docs.wrong_fedkeys(shlex.split(line))]


def test_an_example_with_an_option_that_is_not_there_is_a_mistake():
    assert mistakes_in_examples("  Example:\n    fedkeys train --rnu runs/first\n") == [
        "`fedkeys train --rnu runs/first` has an unknown option --rnu"
    ]


@pytest.mark.parametrize("words", [["trian"], ["help", "trian"]])
def test_a_command_that_is_not_there_is_answered_with_the_nearest(words):
    done = fedkeys(*words)
    assert done.exit_code == 2
    assert "there is no command trian: did you mean train?" in done.output


def test_a_command_that_resembles_none_is_answered_with_the_list():
    done = fedkeys("xyzzy")
    assert done.exit_code == 2
    assert "there is no command xyzzy: `fedkeys --help` lists them" in done.output


def test_a_preset_is_printed_with_its_own_values():
    lines = fedkeys("config", "--preset", "private").output.splitlines()
    assert "with the values of the preset private" in lines[0]
    assert "epsilon = 10.0" in lines
    assert "with its default" in fedkeys("config").output.splitlines()[0]


def test_help_alone_is_the_help_of_all():
    assert fedkeys("help").output == fedkeys("--help").output


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("fedkeys tra", {"train", "transcript"}),
        ("fedkeys help tra", {"train", "transcript"}),
        ("fedkeys train --preset s", {"smoke", "small"}),
        ("fedkeys train --fleet lo", {"low-end", "lo"}),  # or a file that begins so
        ("fedkeys train --aggregator s", {"secagg", "split"}),
        ("fedkeys train --set privacy.me", {"privacy.mechanism="}),
        ("fedkeys train --set server.algorithm=fedy", {"server.algorithm=fedyogi"}),
        ("fedkeys train --set client.schedule=co", {"client.schedule=constant", "client.schedule=cosine"}),
        ("fedkeys config --preset q", {"quality"}),
        ("fedkeys evaluate --run runs/f", {"runs/f"}),  # the shell's own folders
    ],
)
def test_shell_completion(words, completions):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli"],
        env={"_FEDKEYS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split(",", 1) for line in done.stdout.splitlines()]
    assert {value for _, value in found} == completions
    if "--run" in words:
        assert found[0][0] == "dir"


def test_without_tensorflow_a_client_asks_for_a_bundle(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = fedkeys("client", "--server", "localhost:1", "--client-id", "ann")
    assert done.exit_code == 2
    assert "TensorFlow is not installed here: name a bundle by --bundle" in done.output

"""The flags that stand for settings, and --set."""

from __future__ import annotations

from operator import attrgetter

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import options
from orchestrator.cli.commands import cli
from orchestrator.errors import ConfigError
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig


def overrides_of(tmp_path, *arguments):
    """What a command gets of the arguments; their exit code and message if they are refused."""
    seen = {}

    @click.command()
    @options.takes_settings(options.DATA, options.ROUNDS, options.AGGREGATOR, options.SEED)
    def command(overrides):
        seen.update(overrides)

    done = CliRunner().invoke(command, arguments)
    return seen if done.exit_code == 0 else (done.exit_code, done.output.splitlines()[-1])


def test_flags_and_set_become_one_dict_of_settings(tmp_path):
    found = overrides_of(tmp_path, "--rounds", "5", "--set", "client.dropout=0.2", "--set", "client.weighting=equal")
    assert found == {"rounds.count": 5, "client.dropout": 0.2, "client.weighting": "equal"}
    config = read_config(overrides=found)
    assert (config.rounds.count, config.client.dropout, config.client.weighting) == (5, 0.2, "equal")


def test_a_flag_that_is_zero_is_given(tmp_path):
    assert overrides_of(tmp_path, "--seed", "0") == {"seed": 0}


@pytest.mark.parametrize("flag", [["--data"], ["--set"]])
def test_a_text_is_found_from_every_folder(flag, tmp_path, monkeypatch):
    (tmp_path / "people.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    value = "people.jsonl#train" if flag == ["--data"] else "data.source=people.jsonl#train"
    assert overrides_of(tmp_path, *flag, value) == {"data.source": f"{tmp_path}/people.jsonl#train"}
    assert overrides_of(tmp_path, "--data", "chitchat") == {"data.source": "chitchat"}


def test_a_setting_is_given_once(tmp_path):
    code, line = overrides_of(tmp_path, "--rounds", "5", "--set", "rounds.count=6")
    assert (code, line) == (2, "Error: --set rounds.count and the flag for it are both given: leave one out")


def test_the_trace_of_a_fleet_is_found_from_every_folder(tmp_path, monkeypatch):
    (tmp_path / "phones.csv").write_text("not,what,it,takes\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["fleet", "--hours", "1", "--trace", "phones.csv"])
    assert f"{tmp_path}/phones.csv" in str(done.exception)


def test_set_wants_an_equals_sign(tmp_path):
    code, line = overrides_of(tmp_path, "--set", "rounds.count")
    assert (code, line) == (2, "Error: Invalid value: --set takes KEY=VALUE, got 'rounds.count'")


def test_a_flag_stands_for_a_setting_and_names_its_values():
    flags = [value for value in vars(options).values() if isinstance(value, options.SettingFlag)]
    assert len(flags) >= 7
    for flag in flags:
        attrgetter(flag.setting)(RunConfig())  # raises for a setting that is not there
    assert "plain, secagg, encrypted or split; secagg is the default" in options.AGGREGATOR.help
    assert "tff or litert" in options.CLIENT_RUNTIME.help


def test_a_wrong_name_is_refused_by_the_settings_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="aggregation.aggregator = 'secag'.*did you mean secagg"):
        read_config(overrides=overrides_of(tmp_path, "--aggregator", "secag"))


def test_a_number_sign_in_a_folder_s_name_is_no_split(tmp_path, monkeypatch):
    (tmp_path / "C#").mkdir()
    for name in ("t.jsonl", "t.sqlite"):
        (tmp_path / "C#" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert options.absolute("C#/t.jsonl") == str(tmp_path / "C#" / "t.jsonl")
    assert options.absolute("C#/t.sqlite#train") == f"{tmp_path / 'C#' / 't.sqlite'}#train"
    assert options.absolute("chitchat") == "chitchat"


def test_a_text_of_few_sentences_can_be_looked_at(tmp_path):
    lines = (f'{{"client_id": "p{n}", "text": "see you soon"}}\n' for n in range(20) for _ in range(4))
    (tmp_path / "few.jsonl").write_text("".join(lines))
    call = ["data", "--data", str(tmp_path / "few.jsonl"), "--json"]
    assert CliRunner().invoke(cli, call).exit_code != 0  # nobody has ten sentences
    done = CliRunner().invoke(cli, [*call, "--set", "data.min_sentences=4"])
    assert done.exit_code == 0
    assert '"sentences":80' in done.stdout


def test_a_file_that_can_not_be_written_is_refused_before_anything_runs(tmp_path):
    """It used to be found out after minutes of work, whose result was then lost."""
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "nowhere" / "words.txt", "nowhere is no folder; make it first"),
        (tmp_path / "file" / "words.txt", "file is no folder; make it first"),
    ):
        with pytest.raises(click.BadParameter, match=reason):
            options.NEW_FILE.convert(str(path), None, None)
    assert options.NEW_FILE.convert(str(tmp_path / "words.txt"), None, None) == tmp_path / "words.txt"
    assert not (tmp_path / "words.txt").exists()


def test_every_file_that_a_command_writes_is_a_new_file():
    """By its help: what it writes, draws, keeps or saves."""
    written = [
        (name, option.name, option.type)
        for name in cli.list_commands(None)
        for option in cli.get_command(None, name).params
        if isinstance(option.type, click.Path) and option.name in ("out", "plot", "save_batches", "save_weights")
    ]
    assert len(written) >= 8
    assert [entry for entry in written if entry[2] not in (options.NEW_FILE, options.FOLDER)] == []


@pytest.mark.parametrize(
    ("command", "option", "number"),
    [
        ("client", "--max-minutes", "nan"),  # would be no limit: nothing is more than that
        ("client", "--max-minutes", "inf"),
        ("client", "--answer-step", "nan"),
        ("client", "--patience", "1e30"),  # more than a clock counts
        ("client", "--patience", "0"),
        ("client", "--wait", "nan"),
        ("client", "--corrupt-share", "nan"),
        ("client", "--corrupt-share", "1"),
        ("client", "--dropout-share", "-0.1"),
        ("serve", "--wait", "nan"),
        ("serve", "--train-timeout", "inf"),
        ("serve", "--stage-timeout", "-1"),
        ("vocabulary", "--epsilon", "nan"),
        ("vocabulary", "--delta", "nan"),
        ("attack", "--noise-multiplier", "nan"),
        ("audit", "--noise-multiplier", "nan"),
    ],
)
def test_a_number_out_of_its_range_or_none_is_refused(command, option, number):
    done = CliRunner().invoke(cli, [command, option, number])
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith(f"Error: Invalid value for '{option}': ")

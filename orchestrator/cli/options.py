"""The options that several commands have, and the flags that stand for a setting."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import click
from click.shell_completion import CompletionItem

from models.chitchat import BUILT_IN
from models.text_sources import locate
from orchestrator.settings.files import tomllib
from orchestrator.settings.kinds import CLIENT_RUNTIMES, SUM_TRAITS, one_of_words
from orchestrator.settings.presets import PRESETS
from orchestrator.settings.sections import AggregationConfig, ClientConfig
from orchestrator.settings.types import Setting

Option = Callable[[Callable[..., object]], Callable[..., object]]  # adds an option to a command


class Named(click.ParamType):
    """The name of a row of a dict, or the path of a file if `or_file`. The settings check the name, not this type."""

    name = "name"

    def __init__(self, rows: Mapping[str, object], or_file: bool = False) -> None:
        self._rows = rows
        self._or_file = or_file

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Completes the names of the rows, and then leaves files to the shell."""
        names = [CompletionItem(name) for name in self._rows if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")] if self._or_file else names


class Number(click.FloatRange):
    """A number in a range, which NaN is not, as it is in click's; at most 1e7 by default, 115 days in seconds."""

    def __init__(self, least: float, most: float = 1e7, min_open: bool = False, max_open: bool = False) -> None:
        super().__init__(least, most, min_open, max_open)

    def convert(self, value: float, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> float:
        """Returns the number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Folder(click.Path):
    """A path that the shell completes with folders. The command itself says what is wrong with it."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leaves the names of folders to the shell."""
        return [CompletionItem(incomplete, type="dir")]


class SettingText(click.ParamType):
    """KEY=VALUE of a setting; the shell completes the key, and a value that is one of several names."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Completes settings up to their `=`, and after it the names that the setting may be."""
        from orchestrator.settings.files import flat_settings
        from orchestrator.settings.run_config import KINDS, RunConfig

        key, equals, begun = incomplete.partition("=")
        if equals:
            return [CompletionItem(f"{key}={name}") for name in KINDS.get(key, ()) if name.startswith(begun)]
        return [CompletionItem(f"{name}=") for name in flat_settings(RunConfig()) if name.startswith(key)]


class NewFile(click.Path):
    """A file to write: refused before anything runs if it could not be written."""

    def convert(
        self, value: Union[str, os.PathLike[str]], param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> Path:
        """Returns the path."""
        path = Path(os.fspath(value))
        if path.is_dir():
            self.fail(f"{path} is a folder; name a file", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{path.parent} is no folder; make it first", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{path} can't be written: permission denied", param, ctx)
        return path


FOLDER = Folder(path_type=Path)
FILE = click.Path(path_type=Path)
NEW_FILE = NewFile()
_TEXT_SETTINGS = ("data.source", "data.vocabulary")  # each names a file or folder, or something built in

_RUN = click.option("--run", "run_path", type=FOLDER, required=True, metavar="DIR", help="The folder of the run.")
_TRUST = click.option(
    "--trust-model",
    is_flag=True,
    help="Run the code of a network of somebody's own, network.py in the run's folder, with your rights.",
)
MODEL = click.option(
    "--model",
    "model",
    metavar="FILE.py:FUNCTION",
    help="Train a network of your own. The file runs with your rights; docs/models.md says what the function returns.",
)
KEYS = click.option(
    "--keys",
    type=FOLDER,
    default=Path("keys"),
    show_default=True,
    metavar="DIR",
    help="The folder of keys, made by `fedkeys keygen` or `fedkeys enrol`.",
)
CONFIG = click.option(
    "--config", "config_path", type=FILE, metavar="FILE", help="Settings as TOML; `fedkeys config` prints such a file."
)
PRESET = click.option(
    "--preset",
    type=Named(PRESETS),
    metavar="NAME",
    help=f"A named set of settings: {one_of_words(PRESETS)}; small is the default.",
)
RESUME = click.option("--resume", is_flag=True, help="Go on from the newest checkpoint, with the settings of the run.")
WORKERS_HELP = (
    "TFF workers: 'auto', a number, or host:port,host:port of remote ones. The settings decide if it is left out."
)
WORKERS = click.option("--workers", metavar="SPEC", help=WORKERS_HELP)
SIGNING_KEY = click.option(
    "--key", type=FILE, metavar="FILE", help="Sign with this key; `fedkeys keygen FILE` makes one."
)
CHECKED_KEY = click.option("--public-key", type=FILE, metavar="FILE", help="With --check: who must have signed.")
SPLIT_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split by person.")
PUBLIC_TEXTS = click.option(
    "--text",
    "texts",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FILE",
    help="Public text: JSON Lines, a .txt file, a folder of them, or a folder of `select-public`; once for each.",
)
LICENCE = click.option(
    "--licence", metavar="NAME", help="Licence of the text, which each model's card names; a choice has one."
)
WORDS = click.option("--words", is_flag=True, help="Show the words that people typed; they are masked without it.")


def trusts(function: Callable[..., object]) -> Callable[..., object]:
    """Adds --trust-model to a command that gets `run_path`: the run's code is loaded before the command begins."""

    @functools.wraps(function)
    def run(*args: object, trust_model: bool = False, run_path: Optional[Path], **options: Any) -> object:
        if trust_model and run_path is not None:
            from orchestrator.cli.output import warn
            from orchestrator.run.own_code import trust_run

            trust_run(run_path, warn)
        return function(*args, run_path=run_path, **options)

    command: Callable[..., object] = _TRUST(run)
    return command


def RUN(function: Callable[..., object]) -> Callable[..., object]:
    """Adds --run, the folder of a run, and --trust-model; the command gets `run_path`."""
    command: Callable[..., object] = _RUN(trusts(function))
    return command


def text_source(help: str) -> Option:
    """Returns the option --data of a command that reads a text without a run's settings, and gets `source`."""
    return click.option("--data", "source", default=BUILT_IN, show_default=True, metavar="SPEC", help=help)


def listens(address: str, help: str) -> Option:
    """Returns the option --listen of a server, which gets `address`."""
    return click.option("--listen", "address", default=address, show_default=True, metavar="HOST:PORT", help=help)


def seconds(flag: str, default: float, help: str, name: Optional[str] = None, above_zero: bool = False) -> Option:
    """Returns an option of seconds from 0 on. The command gets it under `name`; None takes the flag's."""
    names = (flag,) if name is None else (flag, name)
    number = Number(0.0, min_open=above_zero)
    return click.option(*names, type=number, default=default, show_default=True, help=help)


_SET = click.option(
    "--set",
    "settings",
    multiple=True,
    type=SettingText(),
    metavar="KEY=VALUE",
    help="Change any setting, as in --set server.learning_rate=0.01.",
)


@dataclass(frozen=True)
class SettingFlag:
    """A flag that stands for one setting, as --rounds does for rounds.count."""

    flag: str
    setting: str
    help: str
    type: Union[click.ParamType, type, None] = None
    metavar: Optional[str] = None

    @property
    def parameter(self) -> str:
        """The name under which click hands over the value."""
        return self.setting.replace(".", "_")


DATA = SettingFlag("--data", "data.source", "Whose text; see `fedkeys data --help`.", metavar="SPEC")
ROUNDS = SettingFlag("--rounds", "rounds.count", "Number of rounds.", int, "N")
COHORT = SettingFlag("--cohort", "rounds.cohort_size", "Number of clients in a round.", int, "N")
AGGREGATOR = SettingFlag(
    "--aggregator",
    "aggregation.aggregator",
    f"How the updates are summed: {one_of_words(SUM_TRAITS)}; {AggregationConfig().aggregator} is the default.",
    Named(SUM_TRAITS),
    "NAME",
)
CLIENT_RUNTIME = SettingFlag(
    "--client-runtime",
    "client.runtime",
    f"What trains the clients: {one_of_words(CLIENT_RUNTIMES)}; {ClientConfig().runtime} is the default.",
    Named(CLIENT_RUNTIMES),
    "NAME",
)
SEED = SettingFlag("--seed", "seed", "Seed of everything that the simulation draws.", int, "S")
TFF_WORKERS = SettingFlag("--workers", "runtime.workers", WORKERS_HELP, metavar="SPEC")


def takes_settings(*flags: SettingFlag, free: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds flags, and --set if `free`; the command gets `overrides`, the given settings by their dotted names.

    The command raises UsageError if a setting is given twice, by its flag and by --set.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: object, settings: tuple[str, ...] = (), **options: Any) -> None:
            flagged = {flag.setting: options.pop(flag.parameter) for flag in flags}
            function(*args, overrides=_overrides(flagged, parse_settings(settings)), **options)

        command: Callable[..., None] = _SET(run) if free else run
        for flag in reversed(flags):
            option = click.option(flag.flag, flag.parameter, type=flag.type, metavar=flag.metavar, help=flag.help)
            command = option(command)
        return command

    return decorate


def _overrides(flagged: Mapping[str, Optional[Setting]], free: Mapping[str, Setting]) -> dict[str, Setting]:
    given = {name: value for name, value in flagged.items() if value is not None}
    for name in given:
        if name in free:
            raise click.UsageError(f"--set {name} and the flag for it are both given: leave one out")
    overrides = {**given, **free}
    for name in _TEXT_SETTINGS:
        if name in overrides:
            overrides[name] = absolute(str(overrides[name]))
    return overrides


def parse_settings(settings: tuple[str, ...]) -> dict[str, Setting]:
    """Returns KEY=VALUE texts as a dict. A VALUE is written as in TOML; a bare word is a string.

    >>> parse_settings(("rounds.count=20", "data.source=chitchat"))
    {'rounds.count': 20, 'data.source': 'chitchat'}
    """
    parsed: dict[str, Setting] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"--set takes KEY=VALUE, got {setting!r}")
        try:
            parsed[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[key.strip()] = value
    return parsed


def absolute(source: str) -> str:
    """Returns the place of a text so that it holds in every folder, and the name of a built-in text as it is."""
    path, split = locate(source)
    if not path.exists():
        return source
    return str(path.resolve()) if split is None else f"{path.resolve()}#{split}"

"""The configuration of a run: presets, TOML in and out, and the list of every setting.

A setting comes from, the later winning: the defaults (which are the preset `small`), a preset, a TOML file,
the flags of the command line. What the settings are is in orchestrator/settings.py.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import msgspec
import tomli_w

from orchestrator.errors import ConfigError
from orchestrator.fleet_settings import FLEET_PRESETS, FleetConfig
from orchestrator.privacy_settings import PrivacyConfig
from orchestrator.settings import (
    AggregationConfig,
    ClientConfig,
    DataConfig,
    EvaluationConfig,
    FaultsConfig,
    ModelConfig,
    RoundsConfig,
    RunConfig,
    RuntimeConfig,
    ServerConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "PRESETS",
    "AggregationConfig",
    "ClientConfig",
    "DataConfig",
    "EvaluationConfig",
    "FaultsConfig",
    "FleetConfig",
    "ModelConfig",
    "PrivacyConfig",
    "RoundsConfig",
    "RunConfig",
    "RuntimeConfig",
    "ServerConfig",
    "config_digest",
    "describe_config",
    "preset",
    "read_config",
    "read_fleet_settings",
    "write_config",
]

Setting = Union[str, int, float, bool]

# What each preset changes. `small` is what the defaults are.
PRESETS: dict[str, dict[str, Setting]] = {
    "smoke": {
        "client.max_sentences": 100,
        "rounds.count": 250,
        "evaluation.every": 50,
    },
    "small": {},
    "quality": {
        "model.vocabulary_size": 10_000,
        "model.embedding_size": 96,
        "model.num_cells": 670,
        "client.dropout": 0.25,
        "server.learning_rate": 0.008,
        "server.average_decay": 0.98,
        "rounds.count": 2400,
        "rounds.checkpoint_every": 100,
        "evaluation.every": 150,
    },
    # Differential privacy by a budget, on the built-in text: few people, so a small model and large cohorts.
    "private": {
        "model.vocabulary_size": 2000,
        "model.embedding_size": 32,
        "model.num_cells": 64,
        "model.start_from_word_counts": False,
        "client.max_sentences": 100,
        "client.weighting": "equal",
        "server.algorithm": "fedavg",
        "server.learning_rate": 1.0,
        "server.schedule": "constant",
        "rounds.count": 120,
        "rounds.cohort_size": 70,
        "rounds.checkpoint_every": 20,
        "evaluation.every": 20,
        "privacy.mechanism": "matrix",
        "privacy.clip_norm": 2.0,
        "privacy.epsilon": 10.0,
    },
    "gboard": {
        "model.vocabulary_size": 10_000,
        "model.embedding_size": 96,
        "model.num_cells": 670,
        "server.learning_rate": 0.008,
    },
}


def preset(name: str) -> RunConfig:
    """Returns the configuration of a preset.

    Raises:
        ConfigError: there is no such preset.

    >>> preset("gboard").model.num_cells
    670
    """
    return read_config(preset=name)


def read_config(
    path: Optional[Union[str, Path]] = None,
    preset: Optional[str] = None,
    overrides: Optional[Mapping[str, Optional[Setting]]] = None,
    presets: Mapping[str, Mapping[str, Setting]] = PRESETS,
) -> RunConfig:
    """Returns the configuration: `overrides` over the TOML file over the preset over the defaults.

    Args:
        path: a TOML file, or None.
        preset: a name in `presets`, or None.
        overrides: dotted settings, as {"rounds.count": 20}; None as a value means not given.
        presets: the ones to choose from.

    Raises:
        ConfigError: the file can't be read, or a setting is unknown, of the wrong type, out of range or
            contradicts another. The message names file and setting.

    >>> read_config(preset="smoke", overrides={"rounds.count": 20}).rounds
    RoundsConfig(count=20, cohort_size=10, checkpoint_every=50, keep_checkpoints=3)
    """
    layers: dict[str, dict[str, Any]] = {}
    if preset is not None:
        if preset not in presets:
            raise ConfigError(
                f"there is no preset {preset!r}{_closest(preset, presets)}: it is one of {', '.join(presets)}"
            )
        layers[f"preset {preset}"] = dict(presets[preset])
    if path is not None:
        layers[str(path)] = dict(_flatten(_read_toml(Path(path))))
    if overrides:
        layers["command line"] = {name: value for name, value in overrides.items() if value is not None}

    sections: dict[str, Any] = {}
    source_of: dict[str, str] = {}
    for source, settings in layers.items():
        for name, value in settings.items():
            _check_known(name, value, source)
            section, _, field = name.rpartition(".")
            (sections.setdefault(section, {}) if section else sections)[field] = value
            source_of[name] = source
    try:
        config = msgspec.convert(sections, RunConfig)
    except msgspec.ValidationError as error:
        raise _explain(error, sections, source_of) from None
    for name, value in _flatten(msgspec.to_builtins(config)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{source_of[name]}: {name} = {value} is not a finite number")
    return config


def read_fleet_settings(name: str) -> dict[str, Setting]:
    """Returns the settings of a fleet: those of a TOML file, or the fleet.* ones of a preset of FLEET_PRESETS.

    Raises:
        ConfigError: there is neither such a file nor such a preset.

    >>> read_fleet_settings("cross-country")["fleet.day_swing"]
    1.3
    """
    if name in FLEET_PRESETS:
        return {key: value for key, value in FLEET_PRESETS[name].items() if key.startswith("fleet.")}
    if not Path(name).exists():
        raise ConfigError(f"--fleet {name}: is neither a file nor one of {', '.join(FLEET_PRESETS)}")
    settings = dict(_flatten(_read_toml(Path(name))))
    for key, value in settings.items():
        _check_known(key, value, name)
    return {"fleet.policy": "sync", **settings}


def write_config(config: RunConfig, path: Union[str, Path]) -> None:
    """Returns nothing; writes the whole configuration as TOML, which read_config reads back to an equal one.

    The file appears whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.write_text(tomli_w.dumps(msgspec.to_builtins(config)), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"{path}: can't write the configuration: {error.strerror}") from None


def config_digest(config: RunConfig) -> str:
    """Returns a SHA-256, in hex, over every setting: equal configurations have equal digests.

    >>> config_digest(preset("small")) == config_digest(RunConfig())
    True
    """
    settings = msgspec.to_builtins(config)
    for name in _LATER_SECTIONS:
        if getattr(config, name) == type(getattr(config, name))():
            del settings[name]
    return hashlib.sha256(msgspec.json.encode(settings)).hexdigest()  # in the order of the fields


def describe_config() -> str:
    """Returns every setting as TOML, with its meaning and range as a comment and its default as the value."""
    lines = [
        "# Every setting of a fedkeys run, with its default. A file need only name what it changes.",
        f"# Presets (fedkeys train --preset NAME): {', '.join(PRESETS)}. The defaults are the preset small.",
        "",
    ]
    for field in msgspec.structs.fields(RunConfig):
        if field.name not in _SECTIONS:
            lines += _describe(field)
    for section, struct in _SECTIONS.items():
        lines += [f"# {struct.__doc__}", f"[{section}]"]
        for field in msgspec.structs.fields(struct):
            lines += _describe(field)
    return "\n".join(lines[:-1]) + "\n"


_SECTIONS: dict[str, Any] = {
    field.name: type(field.default)
    for field in msgspec.structs.fields(RunConfig)
    if isinstance(field.default, msgspec.Struct)
}
# Sections that came after runs were kept: at their defaults they change nothing, so those runs can still go on.
_LATER_SECTIONS = ("fleet", "privacy")
_SETTINGS = frozenset(
    [field.name for field in msgspec.structs.fields(RunConfig) if field.name not in _SECTIONS]
    + [f"{name}.{field.name}" for name, struct in _SECTIONS.items() for field in msgspec.structs.fields(struct)]
)


def _describe(field: msgspec.structs.FieldInfo) -> list[str]:
    """Returns the lines of one setting: comment, `name = default`, an empty line."""
    info = msgspec.inspect.type_info(field.type)
    assert isinstance(info, msgspec.inspect.Metadata)
    text = (info.extra_json_schema or {})["description"]
    allowed = re.sub(r", at most \d{10,}", "", _allowed(info.type))  # only what an array can index: not worth a word
    comment = textwrap.wrap(f"{text} ({allowed})" if allowed else text, width=98)
    return [f"# {line}" for line in comment] + [tomli_w.dumps({field.name: field.default}).strip(), ""]


def _allowed(kind: msgspec.inspect.Type) -> str:
    """Returns what a setting may be, in words: 'constant, linear or cosine', 'at least 0, below 1', or ''."""
    if isinstance(kind, msgspec.inspect.LiteralType):
        *others, last = (str(value) for value in kind.values)
        return f"{', '.join(others)} or {last}" if others else last
    if isinstance(kind, msgspec.inspect.StrType):
        return "a text that is not empty" if kind.min_length else ""
    words = {"ge": "at least", "gt": "above", "lt": "below", "le": "at most"}
    bounds = {name: getattr(kind, name, None) for name in words}
    return ", ".join(f"{words[name]} {bound}" for name, bound in bounds.items() if bound is not None)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't read the configuration: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every setting; also of an empty section that nobody knows: a mistake."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif value != {} or prefix + name not in _SECTIONS:
            yield prefix + name, value


def _check_known(name: str, value: Any, source: str) -> None:
    if name in _SETTINGS:
        return
    if name in _SECTIONS:
        raise ConfigError(
            f"{source}: {name} = {value!r}, but {name} is a section: write [{name}] and its settings below"
        )
    raise ConfigError(f"{source}: there is no setting {name}{_closest(name, _SETTINGS)} (`fedkeys config` lists them)")


def _closest(name: str, names: Collection[str]) -> str:
    """Returns ", did you mean x?" or nothing. A setting in the wrong section is found by its last part."""
    last = name.rpartition(".")[2]
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.75) or sorted(
        known for known in names if known.rpartition(".")[2] == last
    )
    return f", did you mean {found[0]}?" if found else ""


def _explain(error: msgspec.ValidationError, sections: dict[str, Any], source_of: dict[str, str]) -> ConfigError:
    """Returns msgspec's complaint in our words: file, setting, value, what it may be."""
    reason, _, where = str(error).partition(" - at `$.")
    name = where.rstrip("`")
    section, _, field_name = name.rpartition(".")
    value = sections[section][field_name] if section else sections[field_name]
    struct = _SECTIONS[section] if section else RunConfig
    field = next(field for field in msgspec.structs.fields(struct) if field.name == field_name)
    kind = msgspec.inspect.type_info(field.type)
    assert isinstance(kind, msgspec.inspect.Metadata)
    allowed = _allowed(kind.type)
    if isinstance(kind.type, msgspec.inspect.LiteralType):
        allowed += _closest(str(value), [str(choice) for choice in kind.type.values])
    elif ", got" in reason:
        allowed = _TYPE_NAMES[type(field.default)]
    return ConfigError(f"{source_of[name]}: {name} = {value!r}: must be {allowed}")


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}

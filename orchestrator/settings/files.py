"""The configuration of a run: presets, and TOML in and out.

A setting comes from the defaults (which are the preset `small`), a preset, a TOML file or the flags of the
command line; the last of these that names it wins. orchestrator/settings/run_config.py holds the settings.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import sys
from collections.abc import Collection, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Optional, Union

import msgspec
import tomli_w

from models.files import write_atomically
from models.public_words import NO_LANGUAGE
from orchestrator.errors import ConfigError
from orchestrator.settings.describe import allowed_values
from orchestrator.settings.fleet import FLEET_PRESETS
from orchestrator.settings.kinds import one_of_words
from orchestrator.settings.presets import PRESETS
from orchestrator.settings.run_config import KINDS, SECTIONS, RunConfig, is_known
from orchestrator.settings.types import Setting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# Sections, and settings as "section.name", that are younger than some kept runs. At their defaults they change nothing
# and are left out of the digest, so that those runs can go on. The digests of kept runs include "audit": never add it.
_LATER = (
    "privacy.noise_memory_mib",
    "privacy.buffers",
    "fleet",
    "privacy",
    "aggregation.groups",
    "aggregation.robust",
    "aggregation.helpers",
    "aggregation.complete_up_to",
    "data.forgotten",
    "model.start",
    "data.segmenter",
    "model.kind",
    "model.frozen",
)
# The values with which runs are read that are older than these settings, whatever the defaults are now. At these values
# the settings are not in the digest, either.
_BEFORE: dict[str, Setting] = {"data.tokeniser": 1, "data.min_people": 1, "data.language": NO_LANGUAGE}


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
    of_run: bool = False,
) -> RunConfig:
    """Returns the configuration: `overrides` over the TOML file over the preset over the defaults.

    Args:
        path: a TOML file, or None.
        preset: a name in `presets`, or None.
        overrides: dotted settings, as {"rounds.count": 20}; the value None means that the setting is not given.
        presets: the presets to choose from.
        of_run: whether the file is that of a run, which may be older than some settings.

    Raises:
        ConfigError: the file can't be read, or a setting is unknown, of the wrong type, out of range or
            contradicts another. The message names file and setting.

    >>> read_config(preset="smoke", overrides={"rounds.count": 20}).rounds
    RoundsConfig(count=20, cohort_size=10, checkpoint_every=50, keep_checkpoints=3)
    """
    layers: dict[str, dict[str, Any]] = {}
    if of_run:
        layers["a run of before"] = dict(_BEFORE)
    if preset is not None:
        if preset not in presets:
            raise ConfigError(
                f"there is no preset {preset!r}{_closest(preset, presets)}: it is one of {', '.join(presets)}"
            )
        layers[f"preset {preset}"] = dict(presets[preset])
    if path is not None:
        layers[str(path)] = dict(_dotted(_read_toml(Path(path))))
    if overrides:
        layers["command line"] = {name: value for name, value in overrides.items() if value is not None}

    sections: dict[str, Any] = {}
    source_of: dict[str, str] = {}
    for source, settings in layers.items():
        for name, value in settings.items():
            if name == "runtime.workers" and type(value) is int:  # a number of them, written as one
                value = str(value)
            _check_known(name, value, source)
            _check_kind(name, value, source)
            section, _, field = name.rpartition(".")
            (sections.setdefault(section, {}) if section else sections)[field] = value
            source_of[name] = source
    try:
        config = msgspec.convert(sections, RunConfig)
    except msgspec.ValidationError as error:
        raise _explain(error, sections, source_of) from None
    for name, value in flat_settings(config).items():
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
    settings = dict(_dotted(_read_toml(Path(name))))
    for key, value in settings.items():
        _check_known(key, value, name)
    return {"fleet.policy": "sync", **settings}


def write_config(config: RunConfig, path: Union[str, Path]) -> None:
    """Writes the whole configuration as TOML, which read_config reads back to an equal one.

    The file appears whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    try:
        write_atomically(Path(path), tomli_w.dumps(msgspec.to_builtins(config)).encode())
    except OSError as error:
        raise ConfigError(f"{path}: can't write the configuration: {error.strerror}") from None


def config_digest(config: RunConfig) -> str:
    """Returns a SHA-256, in hex, over every setting: equal configurations have equal digests.

    >>> config_digest(preset("small")) == config_digest(RunConfig())
    True
    """
    settings = msgspec.to_builtins(config)
    for name in _LATER:
        if attrgetter(name)(config) == attrgetter(name)(RunConfig()):
            section, _, last = name.rpartition(".")
            del (settings[section] if section else settings)[last]
    for name, before in _BEFORE.items():
        if attrgetter(name)(config) == before:
            section, _, last = name.rpartition(".")
            del settings[section][last]
    return hashlib.sha256(msgspec.json.encode(settings)).hexdigest()  # in the order of the fields


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # Notepad begins a file with a BOM
    except OSError as error:
        raise ConfigError(f"{path}: can't read the configuration: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def flat_settings(config: RunConfig) -> dict[str, Setting]:
    """Returns {dotted name: value} of every setting, in the order of the sections.

    >>> flat_settings(RunConfig())["rounds.cohort_size"]
    10
    """
    return dict(_dotted(msgspec.to_builtins(config)))


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every setting; also of an empty section that nobody knows: a mistake."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        elif value != {} or prefix + name not in SECTIONS:
            yield prefix + name, value


_SETTINGS = frozenset(flat_settings(RunConfig()))


def _check_known(name: str, value: object, source: str) -> None:
    if name in _SETTINGS:
        return
    if name in SECTIONS:
        raise ConfigError(
            f"{source}: {name} = {value!r}, but {name} is a section: write [{name}] and its settings below"
        )
    raise ConfigError(f"{source}: there is no setting {name}{_closest(name, _SETTINGS)} (`fedkeys config` lists them)")


def _check_kind(name: str, value: object, source: str) -> None:
    """Refuses a kind that nobody knows, here where its file is known."""
    names = tuple(KINDS.get(name, ()))
    if names and not is_known(name, value):
        raise ConfigError(f"{source}: {name} = {value!r}: must be {one_of_words(names)}{_closest(str(value), names)}")


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
    struct = SECTIONS[section] if section else RunConfig
    field = next(field for field in msgspec.structs.fields(struct) if field.name == field_name)
    info = msgspec.inspect.type_info(field.type)
    assert isinstance(info, msgspec.inspect.Metadata)
    allowed = allowed_values(info)
    if isinstance(info.type, msgspec.inspect.LiteralType):
        allowed += _closest(str(value), [str(choice) for choice in info.type.values])
    elif ", got" in reason:
        allowed = _TYPE_NAMES[type(field.default)]
    return ConfigError(f"{source_of[name]}: {name} = {value!r}: must be {allowed}")


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}

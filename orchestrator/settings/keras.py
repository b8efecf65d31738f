"""The settings of a Keras model's rounds: those of a run that have a meaning there, with defaults of their own."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

import msgspec

from orchestrator.errors import ConfigError
from orchestrator.settings.files import flat_settings, read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.types import Setting

# Shell patterns of the settings that such rounds read. An example stands in the place of a sentence, and of a token.
READ = (
    "seed",
    "client.learning_rate",
    "client.schedule",
    "client.epochs",
    "client.batch_size",
    "client.max_sentences",
    "client.weighting",
    "server.*",
    "rounds.*",
    "evaluation.every",
    "runtime.*",
    "aggregation.*",
    "faults.*",
    "privacy.*",
)
_DEFAULTS: dict[str, Setting] = {
    "data.max_words": 1,  # positions of an example
    "data.min_sentences": 1,
    "model.start_from_word_counts": False,
    "client.learning_rate": 0.1,
    "client.clip_norm": 0.0,  # of a step's gradients: the exported step has none
    "client.weighting": "examples",
    "server.algorithm": "fedavg",
    "server.learning_rate": 1.0,
    "server.schedule": "constant",
    "server.average_decay": 0.0,
    "rounds.count": 10,
    "rounds.checkpoint_every": 1,
    "evaluation.every": 10,
}


def keras_config(given: Mapping[str, Setting]) -> RunConfig:
    """Returns the settings of a Keras model's rounds.

    Args:
      given: dotted settings, in place of the defaults.

    Raises:
      ConfigError: one is unknown, has no meaning for such a model, or as read_config.

    >>> keras_config({"rounds.count": 3}).server.algorithm
    'fedavg'
    """
    known = flat_settings(RunConfig())
    for name, value in given.items():
        if name in known and not any(fnmatch(name, pattern) for pattern in READ):
            raise ConfigError(f"{name} = {value!r}: the rounds of a Keras model do not read this setting; leave it out")
    return read_config(overrides={**_DEFAULTS, **given})


def with_most_examples(config: RunConfig, most: int) -> RunConfig:
    """Returns the settings for people of whom nobody has more examples: a larger limit would coarsen the grid."""
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, max_sentences_train=most))

"""From people's arrays and settings to a Keras model's rounds: everything is checked before anything runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

from edge.bundle.keras_examples import ExampleSpec, Inputs, check_examples
from edge.bundle.manifest import signature_entry
from edge.errors import DeviceDataError, ExportError
from models.corpus import ClientId
from models.examples import Examples
from orchestrator.errors import ConfigError
from orchestrator.run.folder import RunFolder
from orchestrator.run.keras_results import KerasTraining
from orchestrator.settings.keras import keras_config, with_most_examples
from orchestrator.settings.kinds import WEIGHTINGS
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.types import Setting

if TYPE_CHECKING:
    import tensorflow as tf

    from edge.export.keras_network import Network
    from orchestrator.run.training import Observer
    from tff_pipelines.runtime import Runtime

PeoplesArrays = Mapping[str, tuple[Inputs, np.ndarray]]  # {person: (x, y)}
_COHORT = "rounds.cohort_size"
_USUAL_COHORT = 10


def load_network(
    source: Union[Path, tf.keras.Model], loss: Optional[str], trainable: tuple[str, ...], lora_rank: int
) -> tuple[Network, str]:
    """Returns the network of a Keras model's file, or of a model in memory, and what the file is called.

    Raises:
      ExportError: it is no such model, or holds what can't be exported.
    """
    from edge.export.keras_network import read_network

    if isinstance(source, Path):
        return read_network(source, loss, trainable, lora_rank), source.name
    if not callable(getattr(source, "save", None)):
        raise ExportError(f"source is a {type(source).__name__}: give a file, or a compiled Keras model")
    with tempfile.TemporaryDirectory() as folder:  # by its file, so that it is checked and built as any other
        path = Path(folder) / f"{source.name.replace('/', '_')}.keras"
        source.save(path)
        return read_network(path, loss, trainable, lora_rank), path.name


def train_on_arrays(
    network: Network,
    source: str,
    people: PeoplesArrays,
    test: PeoplesArrays,
    given: Mapping[str, Setting],
    observer: Observer,
    folder: Optional[RunFolder] = None,
    resume: bool = False,
    runtime: Optional[Runtime] = None,
) -> KerasTraining:
    """Trains a network on people's arrays; see orchestrator.api.train_keras.

    Raises:
      DeviceDataError: somebody's arrays don't fit the model.
      ConfigError: as keras_config; or nobody trains, or fewer people than a round takes, or noise has no ledger.
      OrchestratorError, PipelineError: as orchestrator.run.keras_rounds.train_keras.
    """
    if not people:
        raise ConfigError("people is empty: give {person: (x, y)}")
    config = keras_config({_COHORT: min(_USUAL_COHORT, len(people)), **given})
    spec = _spec(network, config.client.batch_size)
    trainers, tested = _checked(spec, people, "people"), _checked(spec, test, "test")
    if WEIGHTINGS[config.client.weighting].depends_on_text:  # else the settings would tell of it for nothing
        config = with_most_examples(config, max(len(own["targets"]) for own in trainers.values()))
    if config.rounds.cohort_size > len(people):
        raise ConfigError(f"{_COHORT} = {config.rounds.cohort_size}, but {len(people)} people train: lower it")
    if config.privacy.traits.adds_noise:
        config = _with_noise(config, len(people), folder, observer)
    observer.stage("loading TensorFlow Federated")
    from orchestrator.run.keras_rounds import train_keras

    return train_keras(network, source, trainers, tested, config, observer, folder, resume, runtime)


def _spec(network: Network, batch_size: int) -> ExampleSpec:
    from edge.export.keras_tflite import keras_signatures

    train = signature_entry(keras_signatures(network, batch_size)["train"])
    return ExampleSpec(train.inputs[:-1], network.loss.num_classes)  # without the learning rate


def _checked(spec: ExampleSpec, people: PeoplesArrays, what: str) -> dict[ClientId, Examples]:
    checked: dict[ClientId, Examples] = {}
    for who, pair in people.items():
        whose = f"{what}[{who!r}]"
        if not isinstance(who, str):
            raise DeviceDataError(f"{whose}: a person's name is text: give {str(who)!r}")
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DeviceDataError(f"{whose} must be a pair (x, y) of arrays")
        checked[ClientId(who)] = check_examples(spec, pair[0], pair[1], whose)
    return checked


def _with_noise(config: RunConfig, num_people: int, folder: Optional[RunFolder], observer: Observer) -> RunConfig:
    """Returns the settings with nothing of [privacy] left open."""
    if folder is None:
        raise ConfigError(
            f"privacy.mechanism = {config.privacy.mechanism!r}: name a folder, which keeps the ledger and the noise"
        )
    from orchestrator.privacy.calibration import resolve_privacy

    observer.stage("epsilon covers the model; losses, norms, counts and scores are yours alone")
    return resolve_privacy(config, num_people)

"""The folder of a Keras model's rounds: a run's, with keras.json in place of run.json and words.

    keras.json           the model's weights by name and shape, where they began, digest of the settings
    config.toml, rounds.jsonl, checkpoints/, privacy_ledger.jsonl, noise_seed    as a run's

The model itself is not there: its file or its bundle is whoever's trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edge.bundle.folder import read_file
from edge.bundle.keras_golden import weight_names
from edge.bundle.keras_manifest import open_keras_bundle
from edge.clients.keras_model import KerasModel
from edge.export.tflite import TRAIN_FILE
from models.files import write_atomically
from models.weights import Weights, WeightShapes
from orchestrator.errors import RunFolderError
from orchestrator.rounds.build import require_summable
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.run.folder import KERAS_FILE, RunFolder
from orchestrator.run.identity import digest_of_what_matters
from orchestrator.settings.files import read_config
from orchestrator.settings.keras import keras_config, with_most_examples
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.types import Setting

_SCHEMA = 1


class KerasIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """keras.json: what the rounds are made of; who goes on with them must bring the same."""

    schema: int
    config_sha256: str
    source: str  # the model's file
    loss: str
    num_classes: int
    weights: Mapping[str, tuple[int, ...]]  # name -> shape, in the order in which they travel
    start_sha256: str  # of the weights before round 1

    def same_model(self, other: KerasIdentity) -> bool:
        """True if the other's rounds are of the same model, whatever its file is called."""
        return msgspec.structs.replace(self, source="", config_sha256="") == msgspec.structs.replace(
            other, source="", config_sha256=""
        )


def build_keras_identity(
    config: RunConfig, source: str, loss: str, num_classes: int, names: Sequence[str], start: Weights
) -> KerasIdentity:
    """Returns the identity of rounds that are about to begin with the weights `start`."""
    return KerasIdentity(
        schema=_SCHEMA,
        config_sha256=digest_of_what_matters(config),
        source=source,
        loss=loss,
        num_classes=num_classes,
        weights=dict(zip(names, (weight.shape for weight in start))),
        start_sha256=weights_digest(start),
    )


def is_keras_folder(folder: RunFolder) -> bool:
    """True if the folder holds the rounds of a Keras model."""
    return (folder.path / KERAS_FILE).exists()


def create_keras_folder(folder: RunFolder, config: RunConfig, identity: KerasIdentity, state: ServerState) -> None:
    """Begins a folder with the state before round 1.

    Raises:
      RunFolderError: it is not free.
    """
    folder.require_free()
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.lock()
    folder.write_config(config)
    folder.save_checkpoint(state, config.rounds.keep_checkpoints)
    write_atomically(folder.path / KERAS_FILE, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")


def read_keras_folder(folder: RunFolder) -> tuple[RunConfig, KerasIdentity]:
    """Returns the settings and the identity of a folder's rounds.

    Raises:
      RunFolderError: a file is damaged, or the settings were changed.
    """
    path = folder.path / KERAS_FILE
    try:
        identity = msgspec.json.decode(path.read_bytes(), type=KerasIdentity)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): restore it or train anew") from None
    config = read_config(folder.config_path)
    if digest_of_what_matters(config) != identity.config_sha256:
        raise RunFolderError(f"{folder.config_path} was changed since the rounds began: restore it or train anew")
    return config, identity


def begin_from_bundle(folder: RunFolder, bundle: Path, given: Mapping[str, Setting]) -> None:
    """Begins the rounds of devices that train with a Keras model's bundle, at the bundle's weights and with its plan.

    Args:
      folder: a free one.
      bundle: of the model.
      given: dotted settings, in place of the plan's and the defaults.

    Raises:
      BundleError: the bundle can't be used.
      ConfigError: as keras_config, or a cohort of this size can't be summed.
      RunFolderError: the folder is not free.
    """
    manifest = open_keras_bundle(bundle)
    plan, model = manifest.plan, manifest.model
    planned: dict[str, Setting] = {
        "client.learning_rate": plan.learning_rate,
        "client.epochs": plan.epochs,
        "client.batch_size": plan.batch_size,
        "client.max_sentences": plan.max_examples,
    }
    config = keras_config({**planned, **given})
    config = with_most_examples(config, config.client.max_sentences)
    require_summable(config, model.num_weights)
    folder.require_free()
    start = KerasModel(read_file(bundle, manifest, TRAIN_FILE), weight_names(manifest)).get_weights()
    identity = build_keras_identity(
        config, model.source, model.loss, model.num_classes, [entry.name for entry in model.weights], start
    )
    from orchestrator.rounds.server_optimizer import tff_optimizer

    first_state, _ = tff_optimizer(config.server, WeightShapes.of(start))
    create_keras_folder(folder, config, identity, ServerState(0, start, first_state()))

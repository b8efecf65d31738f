"""The folder of a Keras model's rounds: a run's, with keras.json in place of run.json and words.

    keras.json           the model's weights by name and shape, where they began, digests of the settings, the network
                         and, under the salt, of people's arrays
    record_salt          makes that digest tell nobody else anything; secret
    config.toml, rounds.jsonl, checkpoints/, privacy_ledger.jsonl, noise_seed    as a run's

The model itself is not there: its file or its bundle is whoever's trains.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np

from edge.bundle.folder import read_file
from edge.bundle.keras_golden import weight_names
from edge.bundle.keras_manifest import open_keras_bundle
from edge.clients.keras_model import KerasModel
from edge.export.tflite import TRAIN_FILE
from models.corpus import ClientId
from models.examples import Examples
from models.files import write_atomically
from models.weights import Weights, WeightShapes
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.rounds.build import require_all_train, require_summable
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.run.folder import KERAS_FILE, RunFolder
from orchestrator.run.identity import digest_of_what_matters
from orchestrator.run.record import SALT_FILE, create_salt
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
    network_sha256: str  # of the layers and the weights that don't train, or of a bundle's training file
    people_hmac: str = ""  # see people_hmac; empty where devices train

    def same_model(self, other: KerasIdentity) -> bool:
        """True if the other's rounds are of the same model, whatever its file is called and whoever trains it."""
        return self._of_model == other._of_model

    @property
    def _of_model(self) -> KerasIdentity:
        return msgspec.structs.replace(self, source="", config_sha256="", people_hmac="")


def people_hmac(salt: bytes, people: Mapping[ClientId, Examples]) -> str:
    """Returns the HMAC-SHA256 of people's names and arrays in their order, in hex: the salt keeps it from telling."""
    mac = hmac.new(salt, digestmod=hashlib.sha256)
    for person, examples in people.items():
        for name, array in examples.items():
            mac.update(msgspec.msgpack.encode((person, name, array.dtype.str, array.shape)))
            mac.update(np.ascontiguousarray(array).data)
    return mac.hexdigest()


def build_keras_identity(
    config: RunConfig,
    source: str,
    loss: str,
    num_classes: int,
    names: Sequence[str],
    start: Weights,
    network_sha256: str,
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
        network_sha256=network_sha256,
    )


def is_keras_folder(folder: RunFolder) -> bool:
    """True if the folder holds the rounds of a Keras model."""
    return (folder.path / KERAS_FILE).exists()


def create_keras_folder(
    folder: RunFolder,
    config: RunConfig,
    identity: KerasIdentity,
    state: ServerState,
    people: Optional[Mapping[ClientId, Examples]] = None,
) -> None:
    """Begins a folder with the state before round 1; keras.json comes last, so that a call cut off is repeated.

    `people` are who trains; None where devices do.

    Raises:
      RunFolderError: it is not free.
    """
    if is_keras_folder(folder):
        raise RunFolderError(f"{folder.path} holds rounds: go on with them by resume, or name another folder")
    folder.require_free(SALT_FILE, "checkpoints")
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.lock()
    folder.write_config(config)
    if people is not None:
        identity = msgspec.structs.replace(identity, people_hmac=people_hmac(create_salt(folder.path), people))
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


def require_fit_for_files(config: RunConfig) -> None:
    """Refuses settings with which rounds can't be made from devices' files.

    Raises:
      ConfigError: they ask for noise, for a clip that adapts, or for frozen weights.
    """
    require_all_train(config.model)
    if config.privacy.traits.adds_noise or config.privacy.adaptive_clip:
        raise ConfigError(
            f"privacy.mechanism = {config.privacy.mechanism!r}, adaptive_clip = {config.privacy.adaptive_clip}: a file "
            "does not tell whose it is, so the ledger can't count participations; use a run with 'none' and false"
        )


def begin_from_bundle(folder: RunFolder, bundle: Path, given: Mapping[str, Setting]) -> None:
    """Begins the rounds of devices that train with a Keras model's bundle, at the bundle's weights and with its plan.

    Args:
      folder: a free one.
      bundle: of the model.
      given: dotted settings, in place of the plan's and the defaults.

    Raises:
      BundleError: the bundle can't be used.
      ConfigError: as keras_config, or a cohort of this size can't be summed, or require_fit_for_files refuses them.
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
    require_fit_for_files(config)
    train_file = read_file(bundle, manifest, TRAIN_FILE)
    start = KerasModel(train_file, weight_names(manifest)).get_weights()
    names, network_sha256 = [entry.name for entry in model.weights], hashlib.sha256(train_file).hexdigest()
    identity = build_keras_identity(config, model.source, model.loss, model.num_classes, names, start, network_sha256)
    from orchestrator.rounds.server_optimizer import tff_optimizer

    first_state, _ = tff_optimizer(config.server, WeightShapes.of(start))
    create_keras_folder(folder, config, identity, ServerState(0, start, first_state()))

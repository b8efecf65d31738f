"""A round whose clients' updates are files that devices wrote (`fedkeys device-update`)."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.clients.files import most_bytes, update_from_bytes
from edge.errors import DeviceDataError
from models.batches import Batches
from models.client_result import ClientResult
from models.corpus import ClientId
from models.files import write_atomically
from models.weights import Weights, WeightShapes, weights_to_bytes
from orchestrator.aggregator import Cohort
from orchestrator.encoding import Encoder
from orchestrator.errors import BelowThreshold, ConfigError, Diverged, RunFolderError
from orchestrator.rounds.build import build_aggregator, build_encoder, build_groups, client_weight, learning_rates
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import RoundFunctions, RoundReport, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.keras_folder import is_keras_folder, read_keras_folder, require_fit_for_files
from orchestrator.run.loop import WallClock
from orchestrator.run.record import RECORD_FILE, open_record
from orchestrator.run.saved import read_run
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import ClientConfig, RoundsConfig

_ID_DIGITS = 16


@dataclass(frozen=True)
class DeviceUpdate:
    """A file that a device wrote, read once: what is named, checked and summed are the same bytes.

    Attributes:
      client_id: follows from the SHA-256 of the content.
      path: of the file, for errors.
      result: of the client's work; see edge.clients.files.update_from_bytes.
    """

    client_id: ClientId
    path: Path
    result: ClientResult


def write_round_weights(folder: RunFolder, out: Path) -> tuple[int, float]:
    """Writes the weights that a round's devices begin at to `out`.

    Returns (the run's next round, its clients' learning rate).

    Raises:
      RunFolderError: the run has no checkpoint.
    """
    state = folder.load_to_go_on()
    write_atomically(out, weights_to_bytes(state.weights))
    return state.round_num + 1, _learning_rates(_config(folder), state.round_num + 1)[0]


def _config(folder: RunFolder) -> RunConfig:
    return read_keras_folder(folder)[0] if is_keras_folder(folder) else read_run(folder).config


def aggregate_updates(folder: RunFolder, paths: Sequence[Path]) -> tuple[ServerState, RoundReport]:
    """Computes a run's next round from files of updates, and returns the state after it.

    The run gains a line and a checkpoint, or nothing.

    Whoever runs this can read the files: the run's aggregator sums them as it would over a network, but hides none.
    They are treated like every round's updates: clipped, encoded, summed, and applied in one step of the server. A
    client's name is its file's SHA-256, so neither the files' names nor their order change anything. Rounds after the
    configuration's last take the last one's learning rate.

    Args:
      folder: of a run, or of a Keras model's rounds; its newest checkpoint is where the devices must have begun.
      paths: the files. All are held in memory, 4 bytes for each weight of each.

    Raises:
      DeviceDataError: a file can't be used, is there twice, began at other weights or claims impossible counts.
      ConfigError: the run's settings forbid such a round, or there are more files than its cohort has members.
      BelowThreshold: the round is abandoned: too few files, all diverged, or a sum that honest ones can't give.
      Diverged: the server's step leads to weights that are not finite.
      RunFolderError: see there.
    """
    config = _config(folder)
    _require_possible(config, len(paths))
    kept, state = folder.checkpoints(), folder.load_to_go_on()
    size = WeightShapes.of(state.weights)
    encoder = build_encoder(config, size)
    updates = read_device_updates(paths, state.weights)
    for update in updates:
        _require_weight(update, config.client, encoder)
    folder.lock()
    if folder.checkpoints() != kept:
        raise RunFolderError(f"{folder.path} has gone on meanwhile: let the devices begin at its newest weights")
    # TensorFlow is loaded from here on: what can be refused has been.
    from orchestrator.rounds.server_optimizer import tff_optimizer

    _, update_server = tff_optimizer(config.server, size)
    round_num = state.round_num + 1
    client_rate, server_rate = _learning_rates(config, round_num)
    clock, devices = WallClock(), _Devices(updates)
    after, report = run_round(
        state,
        Cohort(round_num, tuple(update.client_id for update in updates), config.aggregation.min_survivors),
        RoundFunctions(
            batches_of=devices.batches_of,
            train_clients=devices.train_clients,
            weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
            encoder=encoder,
            aggregator=build_aggregator(config.aggregation),
            update_server=update_server,
            average_decay=config.server.average_decay,
            groups=build_groups(config.aggregation),
        ),
        seed=config.seed,
        client_learning_rate=client_rate,
        server_learning_rate=server_rate,
        stopwatch=clock,
    )
    _require_sound(after, report)
    report = replace(report, stage_s=clock.take())
    _keep(folder, state, after, report, config.rounds)
    return after, report


def _require_sound(after: ServerState, report: RoundReport) -> None:
    """Refuses a round that must not be kept."""
    if report.outcome != "completed":
        raise BelowThreshold(f"{report.reason}; nothing was written")
    if not all(np.isfinite(tensor).all() for tensor in after.weights):
        raise Diverged(f"round {after.round_num} leads to weights that are not finite; nothing was written")


def _keep(folder: RunFolder, state: ServerState, after: ServerState, report: RoundReport, rounds: RoundsConfig) -> None:
    """Adds the round after `state` to the run: its entry, its line, its checkpoint."""
    if (folder.path / RECORD_FILE).exists():  # a run begun by fedkeys serve has none
        recorder = open_record(folder.path, folder.identity(), "", state)
        assert recorder is not None
        recorder.append(report, sync=True)
    folder.forget_rounds_after(state.round_num)
    folder.append_round(report, wall_s=round(sum(report.stage_s.values()), 4), clients="device files")
    folder.save_checkpoint(after, rounds.keep_checkpoints)


def _learning_rates(config: RunConfig, round_num: int) -> tuple[float, float]:
    """Returns learning_rates; beyond the configuration's last round, those of the last one."""
    return learning_rates(config, min(round_num, config.rounds.count))


def _require_possible(config: RunConfig, num_files: int) -> None:
    require_fit_for_files(config)
    if config.fleet.kind.has_fleet:
        raise ConfigError(f"fleet.policy = {config.fleet.policy!r}: files know no virtual clock; use a run with 'off'")
    least, most = config.aggregation.min_survivors, config.rounds.cohort_size
    if num_files > most:
        raise ConfigError(
            f"{num_files} updates, but rounds.cohort_size = {most} is all that the encoder has room for: "
            f"give at most {most}"
        )
    if num_files < least:
        raise BelowThreshold(f"{num_files} updates, aggregation.min_survivors = {least}: wait for more devices")


def read_device_updates(paths: Sequence[Path], base: Weights) -> tuple[DeviceUpdate, ...]:
    """Returns the files' updates in the order of their clients' names; each file is read once.

    Args:
      paths: the files.
      base: the weights that the devices must have begun at.

    Raises:
      DeviceDataError: a file can't be read, is there twice, or is no update of these weights.
    """
    updates: dict[ClientId, DeviceUpdate] = {}
    for path in paths:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes(base):
                raise DeviceDataError(f"{path} is no file of an update: it has at most {most_bytes(base):,} bytes")
            raw = path.read_bytes()
        except OSError as error:
            raise DeviceDataError(f"{path}: can't be read: {error.strerror}") from None
        name = ClientId(f"device-{hashlib.sha256(raw).hexdigest()[:_ID_DIGITS]}")
        if name in updates:
            raise DeviceDataError(f"{path} holds the same update as {updates[name].path}: give each device's once")
        updates[name] = DeviceUpdate(name, path, update_from_bytes(raw, base, str(path)))
    return tuple(updates[name] for name in sorted(updates))


def _require_weight(update: DeviceUpdate, client: ClientConfig, encoder: Encoder) -> None:
    """Refuses an update that claims more examples than the plan allows: an update counts by what it claims."""
    num_examples, num_tokens = update.result["num_examples"], update.result["num_tokens"]
    weight = client_weight(client, num_tokens, num_examples)
    if not 0 < weight <= encoder.max_weight:
        raise DeviceDataError(
            f"{update.path} claims {num_examples} examples and {num_tokens} tokens: by client.weighting = "
            f"{client.weighting!r} it counts {weight}, allowed is 1 to {encoder.max_weight:g}"
        )


class _Devices:
    """Hands over the files' updates, each where the round asks for its client."""

    def __init__(self, updates: Sequence[DeviceUpdate]):
        self._results = {update.client_id: update.result for update in updates}
        self._asked: list[ClientId] = []

    def batches_of(self, client_id: ClientId, rng: np.random.Generator) -> Batches:
        """No batches: they stay on the device."""
        self._asked.append(client_id)
        nothing = np.zeros((0, 1, 1))
        return Batches(nothing.astype(np.int32), nothing.astype(np.int32), nothing.astype(np.float32))

    def train_clients(
        self, weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[ClientResult]:
        """The updates in the order in which the batches were asked for; run_round counts members at work by them."""
        return (self._results[self._asked[number]] for number, _ in enumerate(batches))

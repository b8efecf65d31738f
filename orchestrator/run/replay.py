"""Computes a round again from a run's record, and compares the two bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import msgspec

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, Vector, total_digest
from orchestrator.encoding import Encoder
from orchestrator.errors import RunFolderError
from orchestrator.rounds.build import model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import Privacy, Release, RoundReport, ServerState
from orchestrator.run import record
from orchestrator.run.loop import WallClock
from orchestrator.run.record import Entry
from orchestrator.run.saved import Run
from orchestrator.run.sources import build_provenance
from orchestrator.run.start import read_first_weights


class Replay(msgspec.Struct, frozen=True):
    """What a round came to when it was computed again.

    Attributes:
      ok: it is what the record says.
      round_num: the round, or the first on the way to it that differs.
      from_round: whose state it began at.
      weights_sha256: what was found; None if only the sum was compared.
      recorded_sha256: what the record says.
      up_to_noise: only the sum before the noise was compared.
      differs: the fields of the record's entry that differ.
    """

    ok: bool
    round_num: int
    from_round: int
    weights_sha256: Optional[str]
    recorded_sha256: str
    up_to_noise: bool
    differs: tuple[str, ...]


def replay_round(run: Run, round_num: int, note: Callable[[str], None]) -> Replay:
    """Computes a round again, and compares it with the record.

    Begins at the newest checkpoint before the round, or at the initial state, and compares each round on the way.
    Without the sealed seed of the noise, under differential privacy, it compares up to the noise: `up_to_noise`.

    Args:
      run: the run; its workers change no bit.
      round_num: the round.
      note: is told what begins.

    Raises:
      RunFolderError: the record, text, code or lock file is not what the round was made from, or it can't be replayed.
    """
    entries = run.record
    record.check_against_reports(run.path, entries, run.rounds)
    _check_round(run, entries, round_num)
    from_elsewhere = {line.round_num: line.clients for line in run.rounds if line.clients}
    privacy = _read_privacy(run, entries[round_num].noise_commitment)
    note("reading the text")
    data = run.text.data
    note("loading TensorFlow Federated")
    from orchestrator.run.bound import bind_run

    salt, clock = record.read_salt(run.path), WallClock()
    first = read_first_weights(run.path, run.start, model_size(run.config.model, run.vocabulary.size))
    with bind_run(run.config, data, privacy, note, first) as bound:
        state = _start_state(run, entries, round_num, bound.initial_state)
        start = state.round_num
        if isinstance(privacy, UpToNoise) and start != round_num - 1:
            raise RunFolderError(
                f"{run.path} has no noise seed, and without it a round can be checked only from the checkpoint "
                f"before it: that of round {round_num - 1} is not kept"
            )
        for number in range(start + 1, round_num + 1):
            if number in from_elsewhere:
                raise RunFolderError(
                    f"round {number} of {run.path} was of {from_elsewhere[number]}, which the run does not keep: it "
                    "can't be computed again"
                )
            note(f"computing round {number} again")
            try:
                state, report = bound.run_round(state, clock)
            except _Summed as summed:
                found = record.aggregate_commitment(salt, number, summed.sha256)
                differs = [] if found == entries[number].aggregate_commitment else ["aggregate_commitment"]
                return _compared(round_num, start, entries[round_num], None, differs, up_to_noise=True)
            differs = _differences(salt, entries[number], report)
            if differs:
                return _compared(number, start, entries[number], report.weights_sha256, differs)
    return _compared(round_num, start, entries[round_num], report.weights_sha256, [])


def _compared(
    round_num: int, start: int, entry: Entry, found: Optional[str], differs: Sequence[str], up_to_noise: bool = False
) -> Replay:
    return Replay(not differs, round_num, start, found, entry.weights_sha256, up_to_noise, tuple(differs))


def _check_round(run: Run, entries: Sequence[Entry], round_num: int) -> None:
    """Refuses what can't be replayed here, in one line."""
    path, last = run.path / record.RECORD_FILE, len(entries) - 1
    if not 1 <= round_num <= last:
        raise RunFolderError(f"{path} has no round {round_num}: it holds rounds 1 to {last}")
    entry, identity = entries[round_num], run.identity
    now = build_provenance(identity, entry.noise_commitment)
    for name, what in (
        ("config_sha256", "run.json has another configuration: restore it"),
        ("corpus_sha256", "run.json has another text: restore it"),
        ("vocabulary_sha256", "run.json has another vocabulary: restore it"),
        ("code_sha256", "this is other code than the round was computed with: use that version of fedkeys"),
        ("lock_sha256", "the lock file is another than the round was computed with: set up from that one"),
    ):
        if getattr(entry, name) != getattr(now, name):
            raise RunFolderError(f"{path}, entry {round_num}: {name} differs: {what}")


def _read_privacy(run: Run, commitment: str) -> Optional[Privacy]:
    """Returns the run's mechanism with its sealed noise; without the seed, one that stops before the noise."""
    if not run.config.privacy.traits.adds_noise:
        return None
    from orchestrator.privacy import noise
    from orchestrator.privacy.mechanism import Mechanism

    if (run.path / noise.SEED_FILE).exists():
        seed = noise.read_seed(run.path)
        if noise.commitment(seed) != commitment:
            raise RunFolderError(f"{run.path / noise.SEED_FILE} is not the seed that the record commits to: restore it")
        return Mechanism(run.config, seed, None)
    if run.config.privacy.traits.from_clients:
        raise RunFolderError(
            f"{run.path / noise.SEED_FILE} is missing, and the clients' own noise follows from it: nothing of the "
            "round can be computed again without it"
        )
    return UpToNoise()


class _Summed(Exception):
    """Ends a replay at the noise."""

    def __init__(self, sha256: str):
        super().__init__(sha256)
        self.sha256 = sha256


class UpToNoise:
    """A mechanism without its noise: stops the round once there is a sum. See orchestrator.rounds.types.Privacy."""

    def before_round(self, cohort: Cohort) -> None:
        """Charges nothing, since nothing is released."""

    def client_noise(self, vector: Vector, encoder: Encoder, round_num: int, client_id: ClientId) -> Vector:
        """Returns the vector as it is: the server adds the noise."""
        return vector

    def release(self, total: Vector, encoder: Encoder, cohort: Cohort) -> Release:
        """Raises _Summed with the sum's digest."""
        raise _Summed(total_digest(total))


def _start_state(
    run: Run, entries: Sequence[Entry], round_num: int, initial_state: Callable[[], ServerState]
) -> ServerState:
    """Returns the newest kept state before a round, after it has checked the state's digest."""
    kept = [number for number in run.folder.checkpoints() if number < round_num]
    state = run.folder.load_checkpoint(kept[-1]) if kept else initial_state()
    if weights_digest(state.model) != entries[state.round_num].weights_sha256:
        where = f"the checkpoint of round {state.round_num}" if kept else "the initial state"
        raise RunFolderError(f"{run.path}: {where} does not have the weights of the record's entry: restore it")
    return state


def _differences(salt: bytes, entry: Entry, report: RoundReport) -> list[str]:
    """Returns the fields in which a round that was computed again differs from the recorded one.

    Epsilon is the ledger's, not the round's.
    """
    found = {
        "outcome": report.outcome,
        "cohort_commitment": record.cohort_commitment(salt, entry.round_num, report.selected, report.survivors),
        "aggregate_commitment": record.aggregate_commitment(salt, entry.round_num, report.aggregate_sha256),
        "weights_sha256": report.weights_sha256,
    }
    return [name for name, value in found.items() if getattr(entry, name) != value]

"""A run's folder: configuration, vocabulary, a line for each round, checkpoints.

    run.json             schema, digests of text, vocabulary and config, versions: what a resume must find again
    config.toml          the whole configuration
    vocabulary.txt       the words, in id order
    rounds.jsonl         a RoundReport a line
    begun.txt            a network run's: the last round that clients heard of
    suspects.json        a network run's: who spoiled sums, see orchestrator.network.suspects
    start.bin            the weights before round 1 of a run that has a start: see orchestrator.run.start
    network.py           the code of a run whose network is somebody's own: see orchestrator.run.own_code
    record.jsonl         an entry a round, chained by hashes: see orchestrator.run.record
    keras.json           of a Keras model's rounds, in place of run.json: see orchestrator.run.keras_folder
    checkpoints/         round_000050.npz: weights, optimiser state, average
    private_ngram/       a private run's n-gram with a ledger of its own: see orchestrator.evaluation.ngram_release
    tensorboard/         scalars

Whatever is replaced is written aside first and then renamed: a kill or a full disk leaves the old file whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import weakref
from pathlib import Path
from typing import Optional, Union

import msgspec

from models.files import own_only, write_atomically
from models.own_network import loaded_source
from models.vocabulary import POOLED, PUBLIC, Vocabulary, WordList
from models.weights import Weights, weights_to_bytes
from orchestrator.errors import RunFolderError
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.checkpoint import read_state, state_to_bytes
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.run.lines import Round, encode_line, line_of, read_lines
from orchestrator.settings.files import read_config, write_config
from orchestrator.settings.run_config import RunConfig

_log = logging.getLogger(__name__)
FOUND_WORDS_FILE = "vocabulary.json"  # of a run that found its words itself: how
START_FILE = "start.bin"
KERAS_FILE = "keras.json"  # in place of run.json and vocabulary.txt: see orchestrator.run.keras_folder
CODE_FILE = "network.py"
NGRAM_FOLDER = "private_ngram"
NGRAM_FILE, NGRAM_RELEASE_FILE = "ngram.npz", "release.json"  # in it


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: os.PathLike):
        self.path = Path(path)
        self._unlock: Optional[weakref.finalize] = None

    @property
    def config_path(self) -> Path:
        """The file of the configuration."""
        return self.path / "config.toml"

    @property
    def rounds_path(self) -> Path:
        """The file of round reports."""
        return self.path / "rounds.jsonl"

    @property
    def tensorboard_path(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def suspects_path(self) -> Path:
        """The file of who spoiled a network run's sums."""
        return self.path / "suspects.json"

    def exists(self) -> bool:
        """True if a run was begun here."""
        return (self.path / "run.json").exists()

    def require_free(self, *also: str) -> None:
        """Checks that a new run may begin here; `also` names what a kill may have left besides a run's files.

        Raises: RunFolderError: the folder holds a run, or something else.
        """
        if self.exists():
            raise RunFolderError(
                f"{self.path} already holds a run: add --resume to go on with it, or name another folder"
            )
        # What a kill before run.json leaves; a checkpoint after a round is none of it.
        others = also if not any(self.checkpoints()) else ()
        begun = {"config.toml", "vocabulary.txt", FOUND_WORDS_FILE, START_FILE, CODE_FILE, ".lock", *others}
        if self.path.exists() and (not self.path.is_dir() or {p.name for p in self.path.iterdir()} - begun):
            raise RunFolderError(f"{self.path} is not an empty folder: name another one")

    def create(
        self, config: RunConfig, vocabulary: Vocabulary, identity: RunIdentity, first: Optional[Weights] = None
    ) -> None:
        """Begins a run, with the weights before round 1 if it has a start; raises as require_free."""
        self.require_free()
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        self.write_config(config)
        vocabulary.write(self.path / "vocabulary.txt")
        if first is not None:
            # The model of a private training may give away what people typed, and no noise of this run covers that.
            write_atomically(self.path / START_FILE, weights_to_bytes(first), private=True)
        code = loaded_source(config.model.kind)
        if code is not None:
            write_atomically(self.path / CODE_FILE, code)
        write_atomically(self.path / "run.json", msgspec.json.format(msgspec.json.encode(identity)) + b"\n")

    def write_config(self, config: RunConfig) -> None:
        """Keeps the configuration; a resume may name other workers, or another place of the same text."""
        write_config(config, self.config_path)

    def lock(self) -> None:
        """Keeps a second process from writing this run, until this object or the process ends.

        Raises:
          RunFolderError: another process has it.
        """
        if self._unlock is not None:
            self._unlock()
        descriptor = os.open(self.path / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
        self._unlock = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunFolderError(f"{self.path} is in use by another process: wait for it or end it") from None

    def config(self, workers: Optional[str] = None, identity: Optional[RunIdentity] = None) -> RunConfig:
        """Returns the configuration that the run was begun with, with its own word list.

        Args:
          workers: in place of its runtime.workers; None keeps these.
          identity: of the run, if it was read already.

        Raises:
          RunFolderError: config.toml is not the one that the run was begun with.
        """
        config = read_config(self.config_path, overrides={"runtime.workers": workers}, of_run=True)
        if digest_of_what_matters(config) != (identity or self.identity()).config_sha256:
            raise RunFolderError(f"{self.config_path} was changed since the run began: restore it or train anew")
        return self.with_own_vocabulary(config)

    def with_own_vocabulary(self, config: RunConfig) -> RunConfig:
        """Returns the configuration with the run's copy of its word list, if the settings name a file."""
        if config.data.vocabulary in (POOLED, PUBLIC):
            return config
        own = str((self.path / "vocabulary.txt").resolve())  # the folder or the file may have moved
        return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, vocabulary=own))

    def identity(self) -> RunIdentity:
        """Returns what the run is made of; the first that whoever reads a run asks for.

        Raises:
          RunFolderError: there is no run, it is of another schema, or holds what is no file.
        """
        path = self.path / "run.json"
        self._require_files()
        try:
            raw = path.read_bytes()
        except OSError:
            if (self.path / KERAS_FILE).exists():
                raise RunFolderError(
                    f"{self.path} holds rounds of a Keras model: only `fedkeys aggregate` and api.train_keras take it"
                ) from None
            raise RunFolderError(
                f"{self.path} holds no run: train one with `fedkeys train --run {self.path}`"
            ) from None
        try:
            schema = msgspec.json.decode(raw, type=dict).get("schema")
            if schema != SCHEMA:
                raise RunFolderError(
                    f"{path} has schema {schema!r}, this fedkeys reads {SCHEMA}: use the fedkeys that wrote it"
                )
            return msgspec.json.decode(raw, type=RunIdentity)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{path} is damaged ({error}): restore it or train anew") from None

    def _require_files(self) -> None:
        """Refuses a folder with a pipe or a device in it, which a reader would wait for without end."""
        for path in (*self.path.glob("*"), *self.path.glob("checkpoints/*")):
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise RunFolderError(f"{path} is neither a file nor a folder: remove it, or restore the run's file")

    def vocabulary(self, identity: Optional[RunIdentity] = None) -> Vocabulary:
        """Returns the run's vocabulary.

        Args:
          identity: of the run, if it was read already.

        Raises:
          RunFolderError: vocabulary.txt is not the one that the run was begun with.
          VocabularyError: it can't be read.
        """
        path = self.path / "vocabulary.txt"
        vocabulary = Vocabulary.read(path)
        if vocabulary.digest != (identity or self.identity()).vocabulary_sha256:
            raise RunFolderError(f"{path} was changed since the run began: restore it or train anew")
        return vocabulary

    def words(self, identity: RunIdentity) -> Optional[WordList]:
        """Returns the run's vocabulary with its origin; None for an older run, whose words follow from its settings.

        Raises: as vocabulary.
        """
        return None if identity.words is None else WordList(self.vocabulary(identity), identity.words)

    def append_round(
        self, report: RoundReport, wall_s: float, clients: Union[str, msgspec.UnsetType] = msgspec.UNSET
    ) -> Round:
        """Adds a line to rounds.jsonl and returns it."""
        line = line_of(report, wall_s, clients)
        with open(self.rounds_path, "ab", opener=own_only) as file:
            file.write(encode_line(line))
        return line

    def rounds(self) -> tuple[Round, ...]:
        """Returns the rounds, oldest first; raises as read_lines."""
        return tuple(line for line, _ in read_lines(self.rounds_path))

    def begin_round(self, round_num: int) -> None:
        """Notes that clients are about to hear of a round: once they have, no process may sum it a second time."""
        write_atomically(self.path / "begun.txt", f"{round_num}\n".encode())

    def last_begun(self) -> int:
        """Returns the last round that clients may have heard of; 0 if they heard of none.

        Raises:
          RunFolderError: begun.txt is damaged.
        """
        path = self.path / "begun.txt"
        noted = path.read_text(errors="replace").strip() if path.exists() else "0"
        if not (noted.isascii() and noted.isdigit()):
            raise RunFolderError(f"{path} is damaged: restore it, or write into it the last round that was begun")
        return max(int(noted), *(line.round_num for line in self.rounds()), 0)

    def forget_rounds_after(self, round_num: int) -> None:
        """Keeps only the lines up to `round_num`: a resume writes the later ones again."""
        kept = [raw for line, raw in read_lines(self.rounds_path) if line.round_num <= round_num]
        write_atomically(self.rounds_path, b"".join(kept), private=True)

    def checkpoints(self) -> list[int]:
        """Returns the rounds that have a checkpoint, oldest first."""
        names = (re.fullmatch(r"round_(\d+)\.npz", p.name) for p in (self.path / "checkpoints").glob("*"))
        return sorted(int(name[1]) for name in names if name)

    def save_checkpoint(self, state: ServerState, keep: int) -> None:
        """Writes a checkpoint, then removes all but the newest `keep`; those of later rounds are forgotten."""
        (self.path / "checkpoints").mkdir(exist_ok=True)
        write_atomically(self.checkpoint_path(state.round_num), state_to_bytes(state))
        kept = self.checkpoints()
        up_to_now = [round_num for round_num in kept if round_num <= state.round_num]
        for gone in set(kept) - set(up_to_now[-keep:]):
            self.checkpoint_path(gone).unlink()

    def load_checkpoint(self, round_num: Optional[int] = None) -> ServerState:
        """Returns the state after `round_num`, by default of the newest checkpoint.

        Raises:
          RunFolderError: there is none, or it is damaged: nobody asked for an older one.
        """
        kept = self.checkpoints()
        if round_num is None and not kept:
            raise RunFolderError(f"{self.path} has no checkpoint yet: let it train to its first, or resume it")
        wanted = kept[-1] if round_num is None else round_num
        try:
            state = read_state(self.checkpoint_path(wanted), wanted)
        except FileNotFoundError:
            have = ", ".join(map(str, kept)) or "none"
            raise RunFolderError(f"{self.path} has no checkpoint of round {wanted}: it has {have}") from None
        if state is None:
            older = [own for own in kept if own < wanted]
            advice = f", go on from round {older[-1]} with --resume, or name that round" if older else ""
            raise RunFolderError(f"{self.checkpoint_path(wanted)} is damaged: restore it or train anew{advice}")
        return state

    def load_to_go_on(self) -> ServerState:
        """The state of the newest checkpoint that can be read; a warning in the log names newer ones that can't.

        Raises:
          RunFolderError: there is none, or the oldest is damaged, too.
        """
        kept = self.checkpoints()
        for round_num in reversed(kept[1:]):
            state = read_state(self.checkpoint_path(round_num), round_num)
            if state is not None:
                return state
            older = kept[kept.index(round_num) - 1]
            _log.warning("%s is damaged: going on from round %d", self.checkpoint_path(round_num), older)
        return self.load_checkpoint(kept[0] if kept else None)

    def checkpoint_path(self, round_num: int) -> Path:
        """Returns the file of the state after a round."""
        return self.path / "checkpoints" / f"round_{round_num:06d}.npz"

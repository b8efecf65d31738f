"""A run as its folder holds it: read once, then handed on to whatever measures, shows or releases it."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import msgspec

from models.chitchat import BUILT_IN
from models.errors import CorpusError
from models.tokeniser import Tokeniser, tokeniser_of
from models.vocabulary import FEDERATED, FILE, POOLED, Vocabulary, WordList, WordOrigin
from orchestrator.errors import RunFolderError
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import Text, load_client_data
from orchestrator.run.folder import FOUND_WORDS_FILE, RunFolder
from orchestrator.run.identity import RunIdentity
from orchestrator.run.lines import Round
from orchestrator.run.record import RECORD_FILE, Entry, read_record
from orchestrator.run.start_origin import Start
from orchestrator.settings.run_config import RunConfig


@dataclass(frozen=True, eq=False)
class Run:
    """A run at the moment that it was read. Words, text, record and newest state are read when first
    asked for, then kept.

    Attributes:
      folder: where it lies.
      config: with the run's own word list.
      identity: what it was made of.
      rounds: those done, oldest first; empty before the first.
    """

    folder: RunFolder
    config: RunConfig
    identity: RunIdentity
    rounds: tuple[Round, ...]

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def has_built_in_text(self) -> bool:
        """True if its text is the built-in one, which is public."""
        return self.config.data.source == BUILT_IN

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The run's words."""
        return self.folder.vocabulary(self.identity)

    @property
    def words(self) -> WordOrigin:
        """Where the run's words come from, as far as a run of its age says it."""
        if self.identity.words is not None:
            return self.identity.words
        if (self.path / FOUND_WORDS_FILE).exists():
            return WordOrigin(FEDERATED)
        return WordOrigin(POOLED if self.config.data.vocabulary == POOLED else FILE)

    @property
    def start(self) -> Optional[Start]:
        """What the run began with; None for fresh weights."""
        return None if self.identity.start is msgspec.UNSET else self.identity.start

    @property
    def tokeniser(self) -> Tokeniser:
        """The rules by which the run's text was split into words.

        Raises:
          SegmenterError: they need a package that this machine has not.
        """
        return tokeniser_of(self.config.data.tokeniser, self.config.data.segmenter)

    @functools.cached_property
    def text(self) -> Text:
        """The text that the run was trained on.

        Raises:
          RunFolderError: it is not there any more, or it has changed.
        """
        vocabulary = self.vocabulary  # read first: a changed word list is named as such
        origin = self.identity.words
        try:
            text = load_client_data(self.config, None if origin is None else WordList(vocabulary, origin))
        except CorpusError as error:
            raise RunFolderError(f"{error}; {self._other_place}") from None
        digests = (text.corpus.digest, text.data.vocabulary.digest)
        if digests != (self.identity.corpus_sha256, vocabulary.digest):
            raise RunFolderError(
                f"{self.path} was trained on another text than {self.config.data.source} holds now: restore it; "
                f"{self._other_place}"
            )
        return text

    def with_text(self, text: Text) -> Run:
        """Returns the same run with a text that was read for its training just now, so that it is not read again."""
        run = dataclasses.replace(self)
        run.__dict__["text"] = text  # where functools keeps it
        return run

    @property
    def _other_place(self) -> str:
        """What to do about a text that lies elsewhere now."""
        return f"if it was moved, name its place with `fedkeys train --run {self.path} --resume --data PLACE`"

    @property
    def has_record(self) -> bool:
        """False for a run that `fedkeys serve` began, or that is older than records."""
        return (self.path / RECORD_FILE).exists()

    @functools.cached_property
    def record(self) -> tuple[Entry, ...]:
        """The entries of the run's record, oldest first; raises as orchestrator.run.record.read_record."""
        return tuple(read_record(self.path))

    @functools.cached_property
    def newest(self) -> ServerState:
        """The state of the newest checkpoint; raises as state_after."""
        return self.state_after(None)

    def state_after(self, round_num: Optional[int]) -> ServerState:
        """Returns the state after a round, by default that of the newest checkpoint.

        Its weights are those that the round reported.

        Raises:
          RunFolderError: there is no such checkpoint, or it is damaged, or holds other weights.
        """
        state = self.folder.load_checkpoint(round_num)
        for line in self.rounds:
            if line.round_num == state.round_num and line.weights_sha256 != weights_digest(state.model):
                raise RunFolderError(
                    f"{self.folder.checkpoint_path(state.round_num)} does not hold the weights that rounds.jsonl "
                    "reports: restore it or train anew"
                )
        return state

    def require_rounds(self) -> None:
        """Checks that there is something to show.

        Raises:
          RunFolderError: no round was done yet.
        """
        if not self.rounds:
            raise RunFolderError(
                f"{self.path} has no round yet: train it with `fedkeys train --run {self.path} --resume`"
            )


def read_run(folder: RunFolder, workers: Optional[str] = None) -> Run:
    """Returns the run of a folder; it reads each file once.

    Args:
      folder: of the run.
      workers: takes the place of runtime.workers, for this reading; None keeps the run's.

    Raises:
      RunFolderError: there is no run, or a file is damaged.
      ConfigError: `workers` is none.
    """
    identity = folder.identity()
    return Run(folder, folder.config(workers, identity), identity, folder.rounds())

"""What `fedkeys transcript` finds, as DIR/transcript.json holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec

from models.disclosure import MASKED
from orchestrator.run.results import read_figures, write_figures

FILE_NAME = "transcript.json"
NUM_SHOWN = 8  # first words, and loudest words


class Uniformity(msgspec.Struct, frozen=True):
    """A chi-square test of an upload's bytes against uniform ones."""

    n: int  # bytes
    chi_square: float
    p_value: float
    ok: bool  # unless p_value is below the false-alarm rate

    @property
    def in_words(self) -> tuple[str, ...]:
        """The verdict on "are the bytes uniform?" and the test's figures.

        >>> Uniformity(n=9000, chi_square=250.25, p_value=0.5711, ok=True).in_words
        ('yes', 'chi² = 250', 'n = 9,000', 'p = 0.57')
        """
        return ("yes" if self.ok else "no", f"chi² = {self.chi_square:,.0f}", *_size_and_p(self.n, self.p_value))


class Correlation(msgspec.Struct, frozen=True):
    """Pearson's r between what the server received and the vector in the clear, slot by slot."""

    n: int  # slots
    r: float
    p_value: float
    ok: bool  # unless p_value is below the false-alarm rate

    @property
    def in_words(self) -> tuple[str, ...]:
        """The verdict on "is there a correlation?" and the test's figures.

        >>> Correlation(n=900, r=0.25, p_value=0.0, ok=False).in_words
        ('SOME', 'r = +0.25', 'n = 900', 'p < 1e-300')
        """
        return ("none" if self.ok else "SOME", f"r = {self.r:+.4g}", *_size_and_p(self.n, self.p_value))


def _size_and_p(n: int, p_value: float) -> tuple[str, str]:
    return f"n = {n:,}", f"p = {p_value:.2g}" if p_value >= 1e-300 else "p < 1e-300"


class Upload(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server received of the client under one aggregator."""

    bytes: int
    uniform_bytes: Uniformity
    byte_counts: tuple[int, ...]  # how often each value of a byte occurs
    picture: str = ""  # the first bytes, in base64
    first_words: tuple[int, ...] = ()  # uint32; of the encrypted upload there are none
    first_bytes: str = ""  # of the encrypted upload, in hexadecimal
    loudest: tuple[str, ...] = ()  # the words whose output bias the upload raises most
    correlation: Optional[Correlation] = None  # with the vector in the clear


class UpdateNorm(msgspec.Struct, frozen=True, rename={"of_the_run": "of the run", "computed_again": "computed again"}):
    """The norm of the round's mean update, which shows that the round was computed again as it was."""

    of_the_run: Optional[float]
    computed_again: Optional[float]


class TranscriptResult(msgspec.Struct, frozen=True):
    """DIR/transcript.json."""

    round_num: int
    client: str
    aggregator: str
    mechanism: str
    update_norm: UpdateNorm
    false_alarm_rate: float  # of each test, on an upload that hides everything
    plain: Upload  # added in the clear
    masked: Upload  # under secure aggregation
    encrypted: Upload  # in the encrypted sum
    typed: tuple[str, ...]  # the client's words that the model knows, the most frequent first
    typed_share: float  # of the model's words
    split: Optional[Upload] = None  # in the split sum; transcripts of before have none

    @property
    def uploads(self) -> dict[str, Upload]:
        """{name of the aggregator: what its server received}."""
        uploads = {"plain": self.plain, "secagg": self.masked, "encrypted": self.encrypted, "split": self.split}
        return {name: upload for name, upload in uploads.items() if upload is not None}

    def without_pictures(self) -> TranscriptResult:
        """Returns the same figures without the thousands of bytes that only a picture needs."""
        plain, masked, encrypted, *split = (msgspec.structs.replace(own, picture="") for own in self.uploads.values())
        return msgspec.structs.replace(
            self, plain=plain, masked=masked, encrypted=encrypted, split=split[0] if split else None
        )

    def without_words(self) -> TranscriptResult:
        """Returns the same figures with the client's words masked, and without the bytes that show the update."""

        def masked(upload: Upload) -> Upload:
            words = tuple(MASKED if word in self.typed else word for word in upload.loudest)
            return msgspec.structs.replace(upload, loudest=words)

        return msgspec.structs.replace(
            self,
            plain=msgspec.structs.replace(masked(self.plain), picture=""),
            masked=masked(self.masked),
            encrypted=masked(self.encrypted),
            split=None if self.split is None else masked(self.split),
            typed=(MASKED,),
        )


def write_transcript(path: Path, result: TranscriptResult) -> None:
    """Writes the transcript into the run's folder `path`, for the report."""
    write_figures(path / FILE_NAME, result, private=True)


def read_transcript_file(path: Path) -> Optional[TranscriptResult]:
    """Returns the transcript kept in folder `path`, None if there is none.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, TranscriptResult, "transcript")

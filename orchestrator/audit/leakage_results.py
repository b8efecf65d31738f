"""What `fedkeys audit` finds, as DIR/audit.json holds it. Each figure says of which kind it is: bound or estimate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

import msgspec

from orchestrator.run.results import read_figures
from orchestrator.run.spent import Guarantee
from orchestrator.units import count_text

FILE_NAME = "audit.json"


class Stated(msgspec.Struct, frozen=True):
    """The epsilon that the accounting states; None where there is no limit."""

    one_round: Optional[float]
    run: Optional[float]
    kind: str = "upper bound"
    run_and_words: Optional[Guarantee] = None  # with a found word list, and a start of the same people


class OneShot(msgspec.Struct, frozen=True):
    """Andrew's estimate from one release. An epsilon is None above 200, which means no privacy."""

    canaries: int
    mean_cosine: float
    deviation: float  # of the cosines
    null_deviation: float  # of an unseen canary's cosine: 1 / sqrt(coordinates)
    epsilon: Optional[float]  # the null's deviation for both: right for Gaussian noise
    epsilon_fitted: Optional[float]  # both deviations fitted: biased upwards
    kind: str = "estimate"


class OneRun(msgspec.Struct, frozen=True):
    """A lower bound from one run, or from one release."""

    canaries: int
    guesses: int
    right: int
    confidence: float
    epsilon: float
    kind: str = "lower bound"


class SummedScores(msgspec.Struct, frozen=True):
    """A lower bound from one run, or from one release, by the same guesses with weights."""

    canaries: int
    guesses: int
    sum: int  # of the weights of the right guesses
    most: int  # that it could be
    confidence: float
    epsilon: float  # of any mechanism
    epsilon_if_gaussian: float  # at the same delta, of a mechanism whose guarantee is a Gaussian curve
    kind: str = "lower bound"


class Estimate(msgspec.Struct, frozen=True):
    """What telling apart the canary that took part most amounts to."""

    shift: float  # how far being in moves its score, in standard deviations of the canaries that are out
    epsilon: Optional[float]  # of a Gaussian release with that shift; None above 200
    epsilon_interval: tuple[Optional[float], Optional[float]]  # 95 %
    kind: str = "estimate"


class WholeRun(msgspec.Struct, frozen=True):
    """The audit of a training with canary clients that took part in it."""

    canaries: int  # that took part in a released round
    included: int  # how many of them sent their direction
    rounds: int  # released
    all_releases: Estimate  # by all rounds' sums
    final_model: Estimate  # by the model at the end alone
    one_run: OneRun  # by all rounds' sums
    scores_in: tuple[float, ...]  # by all rounds' sums, in standard deviations of those that are out
    scores_out: tuple[float, ...]
    summed_scores: Optional[SummedScores] = None  # by all rounds' sums; None in an audit of before


class Exposed(msgspec.Struct, frozen=True):
    """The exposure of some planted phrases, in bits."""

    phrases: int
    mean: float
    most: float


class Exposure(msgspec.Struct, frozen=True):
    """How well the model remembers planted phrases; None where there are none of that sort."""

    most_possible: float  # bits
    by_repeats: Mapping[str, Optional[Exposed]]  # by how often a phrase was typed, people who took part in a round
    never_took_part: Optional[Exposed]  # phrases of people who took part in no round: the control
    kind: str = "estimate"
    never_planted: Optional[Exposed] = None  # as many phrases that nobody typed; None in an audit of before
    of_copy: bool = False  # planted in a copy of the run; the run itself has none
    copy_rounds: Optional[int] = None  # of a copy that was trained for fewer rounds than the run; else None

    def in_a_copy(self, copy_rounds: int, run_rounds: int) -> Exposure:
        """Returns the same, of a copy that was trained for copy_rounds of the run's rounds."""
        fewer = copy_rounds if copy_rounds < run_rounds else None
        return msgspec.structs.replace(self, of_copy=True, copy_rounds=fewer)

    def where(self, run_rounds: int) -> str:
        """Returns a sentence about the copy that the phrases were planted in; nothing if it was the run itself.

        Args:
          run_rounds: how many rounds the run has.
        """
        if self.copy_rounds is not None:
            fewer = count_text(self.copy_rounds, "round")
            return (
                f"They were planted in a copy of the run that was trained for {fewer} in place of {run_rounds:,}. A "
                "model remembers more the longer it is trained, so these estimates are low for the run."
            )
        return "They were planted in a copy of the run." if self.of_copy else ""

    @property
    def rows(self) -> list[tuple[str, Exposed]]:
        """What people read of each sort of phrase that there is, and its exposure."""
        parts = [(f"typed {count_text(int(repeats), 'time')}", part) for repeats, part in self.by_repeats.items()]
        parts.append(("typed by people who took part in no round", self.never_took_part))
        parts.append(("never planted", self.never_planted))
        return [(name, part) for name, part in parts if part is not None]


class AuditResult(msgspec.Struct, frozen=True):
    """DIR/audit.json."""

    round_num: int
    mechanism: str
    noise_multiplier: float
    clip_norm: float
    coordinates: int  # of the release that `one_shot` and `one_run` look at
    delta: float
    stated: Stated
    one_shot: OneShot
    one_run: OneRun
    exposure: Optional[Exposure]
    whole_run: Optional[WholeRun] = None
    whole_run_reason: str = ""  # why there is none
    exposure_reason: Union[str, msgspec.UnsetType] = msgspec.UNSET
    summed_scores: Optional[SummedScores] = None  # by one release; None in an audit of before


def read_audit(path: Path) -> Optional[AuditResult]:
    """Returns the audit of the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, AuditResult, "audit")

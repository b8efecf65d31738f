"""Who has taken part and how far apart, and what that cost whom it cost most.

Who takes part must not depend on anybody's text. Then what a person's rounds were is no secret, and its cost is that of
those very rounds: no sampling is credited, and none is needed.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

from dp_accounting import DpEvent, NoOpDpEvent

from models.corpus import ClientId
from orchestrator.aggregator import Cohort
from orchestrator.errors import PrivacyStop
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.settings.kinds import kind_of
from orchestrator.settings.noise_shape import INDEPENDENT, NoiseShape


class History:
    """The participations of a run, and the event of the person whom they cost most.

    Args:
      mechanism: a name in MECHANISMS.
      noise_multiplier: standard deviation of the noise over the clip norm; tree: of a node; matrix, blt: of a row.
      separation: rounds from one participation of a person to the next, at least; 1 = any.
      shape: of the noise that rounds share.
    """

    def __init__(self, mechanism: str, noise_multiplier: float, separation: int = 1, shape: NoiseShape = INDEPENDENT):
        kind = kind_of(MECHANISMS, "privacy.mechanism", mechanism)
        self._mechanism, self._noise, self._separation = mechanism, noise_multiplier, separation
        self._is_correlated, self._tally = kind.traits.is_correlated, kind.new_tally(shape)
        self._last: dict[ClientId, int] = {}
        self._times: Counter[ClientId] = Counter()
        self.last_round = 0  # that was added

    def require_apart(self, cohort: Cohort) -> None:
        """Refuses a cohort with someone who took part too recently.

        Raises:
          PrivacyStop: the noise would be too little for that person.
        """
        for member in cohort.members:
            last = self._last.get(member)
            if last is not None and last < cohort.round_num < last + self._separation:
                raise PrivacyStop(
                    f"round {cohort.round_num}: {member} took part in round {last} already, and the noise of "
                    f"{self._mechanism!r} needs privacy.separation = {self._separation} rounds from one to the next"
                )

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """Adds a round's participants; a second time for one whose sum is released in another version.

        Raises:
          PrivacyStop: noise is shared between rounds, and this round is not after those before.
        """
        if self._is_correlated and round_num <= self.last_round:
            raise PrivacyStop(
                f"round {round_num} can't be released after round {self.last_round}: rounds share the noise of "
                f"{self._mechanism!r} in their order; resume with the versions that the run had, or train anew"
            )
        self.last_round = max(self.last_round, round_num)
        for member in members:
            self._last[member] = round_num
            self._times[member] += 1
        self._tally.add(round_num, members)

    def after(self, round_num: int, members: Sequence[ClientId]) -> History:
        """Returns the history with another round; this one stays as it is."""
        after = copy.copy(self)
        after._last, after._times, after._tally = self._last.copy(), self._times.copy(), self._tally.copy()
        after.add(round_num, members)
        return after

    @property
    def most_participations(self) -> int:
        """Returns the number of participations of the person who took part most."""
        return max(self._times.values(), default=0)

    def event(self) -> DpEvent:
        """Returns the event, at sensitivity 1, of the person whom the run has cost most."""
        times = self.most_participations
        if times == 0:
            return NoOpDpEvent()
        return self._tally.event(self._noise, times)

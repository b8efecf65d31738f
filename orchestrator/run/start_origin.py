"""What the weights before a run's first round were trained on, as run.json keeps it, and what that means for people."""

from __future__ import annotations

from typing import Optional, Union

import msgspec

RUN, BUNDLE, PUBLIC_TEXT = "run", "bundle", "public text"  # kinds of folders that hold a start
_SAID = {RUN: "run", BUNDLE: "bundle", PUBLIC_TEXT: "public start"}
_BEFORE_A_BUNDLE = "A bundle does not say what its own training began with: no epsilon covers that, either."


class StartText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that a start was trained on.

    Attributes:
      name: of the text.
      sha256: of the text.
      licence: of a public text, in its maker's words; None of what people typed.
      epsilon: what its training has cost each of these people; None: no epsilon holds, or the text is public.
      delta: at which epsilon holds.
      noise_multiplier: of noisy counts of what these people typed, which chose the public text; nothing else of them is
        in it. 0 where the noise is not Gaussian.
    """

    name: str
    sha256: str
    licence: Optional[str] = None
    epsilon: Optional[float] = None
    delta: float = 0.0
    noise_multiplier: Union[float, msgspec.UnsetType] = msgspec.UNSET

    @property
    def is_covered(self) -> bool:
        """True if it tells no more of a person than an epsilon allows, or is nobody's."""
        return self.licence is not None or self.epsilon is not None


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The start of a run: another model, whose weights the run began with.

    Attributes:
      source: RUN, BUNDLE or PUBLIC_TEXT.
      name: of its folder.
      round_num: after which its weights were taken; 0 of a model that no rounds made.
      weights_sha256: of its weights.
      first_sha256: of the weights before the run's round 1, in which its words have the run's ids.
      words: how many words the run's model has rows for.
      mapped: how many of them it knew; the others began with fresh weights.
      texts: what it was trained on, and what it began with in its turn.
    """

    source: str
    name: str
    round_num: int
    weights_sha256: str
    first_sha256: str
    words: int
    mapped: int
    texts: tuple[StartText, ...]

    @property
    def is_public(self) -> bool:
        """True if nobody's text but public text is in it."""
        return all(text.licence is not None for text in self.texts)

    @property
    def statement(self) -> str:
        """What the run began with, and what epsilon says of the people in it."""
        after = f" after round {self.round_num:,}" if self.round_num else ""
        others = "" if self.mapped == self.words else ", and the others began with fresh weights"
        began = (
            f"The training began with the {_SAID[self.source]} `{self.name}`{after}; it knew {self.mapped:,} of the "
            f"{self.words:,} words{others}."
        )
        before = [_BEFORE_A_BUNDLE] if self.source == BUNDLE else []
        # A choice's counts stand behind the texts that they chose from, and whole texts behind all choices.
        is_counts = [text.noise_multiplier is not msgspec.UNSET for text in self.texts]
        about = [_about(text, any(is_counts[place:])) for place, text in enumerate(self.texts)]
        return " ".join((began, *about, *before))


def _about(text: StartText, is_chosen: bool) -> str:
    if text.licence is not None:
        public = f"the public text {text.name} (licence: {text.licence})"
        if is_chosen:
            return f"It was trained on a part of {public}, chosen by noisy counts."
        return f"It was trained on {public}, which costs no epsilon."
    if text.noise_multiplier is not msgspec.UNSET:
        return (
            f"The noisy counts are of what people typed ({text.name}), at epsilon {text.epsilon:.3g}, delta "
            f"{text.delta:.2g}."
        )
    if text.epsilon is None:
        return (
            f"It was trained on what people typed ({text.name}) without differential privacy: no epsilon covers what "
            "it tells of them."
        )
    return f"It was trained on what people typed ({text.name}) at epsilon {text.epsilon:.3g}, delta {text.delta:.2g}."

"""Compares the simulated fleet with the published one: each figure has a band."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edge.fleet import profiles
from orchestrator.fleet.results import PlanFigures

# Bonawitz et al. 2019, "Towards Federated Learning at Scale: System Design", arXiv 1902.01046, section 9.
_SOURCE = "Bonawitz et al. 2019"
_ANCHOR_TOLERANCE = 0.02  # of the seconds per batch that were measured on a phone


class Check(NamedTuple):
    """A published figure, the band that a simulated one must lie in, and what came out."""

    name: str
    published: str
    low: float
    high: float
    simulated: float
    source: str

    @property
    def ok(self) -> bool:
        """Whether the simulated figure lies in its band."""
        return self.low <= self.simulated <= self.high

    def as_dict(self) -> dict[str, object]:
        """Returns the check for JSON."""
        return {**self._asdict(), "ok": self.ok}


def self_check(figures: PlanFigures) -> list[Check]:
    """Returns the checks of `fedkeys fleet --self-check`, from the figures of a plan of whole days.

    The drop-out rate and the day's swing are what the behaviour is fitted to: those two checks say that the fit holds,
    not that it was foreseen. The length of a round follows from measured phones and networks, of phones that had come
    out by 2018; with all that were in use in 2020 it takes just under two minutes.
    """
    return [
        Check("seconds of a round, median", "2-3 minutes", 120.0, 180.0, figures.round_s["p50"], _SOURCE),
        Check("drop-out rate", "6-10 %", 0.06, 0.10, figures.drop_out_rate, _SOURCE),
        Check("eligible phones, best hour over worst", "4x", 3.6, 4.4, figures.day_swing, _SOURCE),
        Check("phones selected for each wanted", "130 %", 1.29, 1.31, figures.over_selection, _SOURCE),
        *_anchors(),
    ]


def _anchors() -> Iterator[Check]:
    """Yields a check for each measured phone: the table must give it the seconds per batch that were measured on it."""
    for tier in profiles.tiers():
        for batch_size in (10, 20, 50):
            measured = tier.train_step_ms[batch_size] / 1e3
            simulated = float(np.ravel(profiles.train_s(tier.devices, 1, batch_size))[0])
            yield Check(
                f"{tier.name}: seconds for a batch of {batch_size}",
                f"{measured:.2f} s",
                measured * (1 - _ANCHOR_TOLERANCE),
                measured * (1 + _ANCHOR_TOLERANCE),
                simulated,
                "FLASH, Yang et al. 2021",
            )

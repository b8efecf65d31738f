"""The attack on noise in floating point: a double's last bits can tell from which number it was reached.

Source: Mironov 2012, "On Significance of the Least Significant Bits for Differential Privacy".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np


def possible_starts(released, starts, value_of: Callable, noises_near: Callable[..., Iterable]):
    """Those of `starts` from which the release's own arithmetic can reach what was released.

    value_of: from (start, noise) to what is released.
    noises_near: from (start, released) to the only noises that could do it.
    """
    return [own for own in starts if any(value_of(own, noise) == released for noise in noises_near(own, released))]


def double_sum(start, noise):
    """A release that is a double with a double added: what must not be."""
    return start + noise


def doubles_near(start, released):
    """The doubles around their difference."""
    middle = np.float64(released) - start
    return np.nextafter(middle, -np.inf), middle, np.nextafter(middle, np.inf)


def whole_near(steps_of: Callable):
    """noises_near of a release of whole steps, of which steps_of tells about how many."""

    def noises_near(start, released):
        return (round(steps_of(released)) - start + off for off in (-1, 0, 1))

    return noises_near

"""Which buffers a BLT gets: as many, with such decays and scales, as leave the least noise for the rounds of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import expit, logit

from orchestrator.privacy.sensitivity import buffered_squared
from orchestrator.settings.noise_shape import Buffer, buffers_setting, read_buffers
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

_MOST_BUFFERS = 3
_WORTH_A_BUFFER = 0.995  # another one must bring the noise below this share of what it was
_NEW_BUFFERS = (Buffer(0.3, 0.1), Buffer(0.995, 0.02))  # a quick and a slow one, from where the search goes on


def noise_of_buffers(num_rounds: int, separation: int, buffers: Sequence[Buffer]) -> float:
    """Returns the root mean square of the running sum's noise, times the sensitivity.

    As orchestrator.privacy.bands.noise_of_bands, of a BLT. Its matrix has the rational generating function
    c(x) = 1 + the sum of scale x / (1 - decay x), so the series 1 / ((1 - x) c(x)) needs as many steps as rounds.

    >>> round(noise_of_buffers(2000, 313, read_buffers("0.993485:0.144318 0.780696:0.325208")), 3)
    9.926
    """
    decays = [one.decay for one in buffers]
    numerator = np.poly(decays)
    for place, one in enumerate(buffers):
        numerator += one.scale * np.append(0.0, np.poly(decays[:place] + decays[place + 1 :]))
    impulse = np.zeros(num_rounds)
    impulse[0] = 1.0
    column = lfilter(np.poly(decays), np.convolve(numerator, [1.0, -1.0]), impulse)
    rms = math.sqrt(float(np.cumsum(np.square(column)).mean()))
    return rms * math.sqrt(buffered_squared(buffers, num_rounds, separation))


def choose_buffers(num_rounds: int, separation: int) -> tuple[Buffer, ...]:
    """Returns the buffers with the least noise found: at most three, and no more than are worth it.

    The search goes on from the best of one buffer fewer, with a quick or a slow one beside. It finds the optimum that
    jax-privacy 2.0 finds (benchmarks/matrix_noise.py).

    >>> len(choose_buffers(2000, 313)), len(choose_buffers(120, 10))
    (2, 1)
    """
    best = min((_improved(num_rounds, separation, [one]) for one in _NEW_BUFFERS), key=lambda found: found[0])
    while len(best[1]) < _MOST_BUFFERS:
        starts = [[*best[1], one] for one in _NEW_BUFFERS]
        found = min((_improved(num_rounds, separation, start) for start in starts), key=lambda found: found[0])
        if found[0] > best[0] * _WORTH_A_BUFFER:
            break
        best = found
    buffers = sorted(best[1], key=lambda one: -one.decay)
    return read_buffers(buffers_setting(buffers))  # as many digits as a run's settings keep


def buffers_text(config: RunConfig) -> str:
    """Says in a line which buffers a run has, for a resolved configuration.

    >>> from orchestrator.settings.files import read_config
    >>> changes = {"privacy.mechanism": "blt", "privacy.buffers": "0.839599:0.616532", "privacy.separation": 10}
    >>> buffers_text(read_config(preset="private", overrides=changes))
    'noise in 1 buffer (decay:scale 0.839599:0.616532), whose rms error x sensitivity is 11.57'
    """
    privacy = config.privacy
    buffers = privacy.shape.buffers
    noise = noise_of_buffers(config.rounds.count, privacy.separation, buffers)
    return (
        f"noise in {count_text(len(buffers), 'buffer')} (decay:scale {privacy.buffers}), whose rms error x sensitivity "
        f"is {noise:.2f}"
    )


def _improved(num_rounds: int, separation: int, start: Sequence[Buffer]) -> tuple[float, tuple[Buffer, ...]]:
    """Returns (noise, buffers) of the best that a search finds from a start.

    It moves logits of the decays and logarithms of the scales, so that both stay in their range.
    """

    def buffers_of(point: NDArray[np.float64]) -> tuple[Buffer, ...]:
        decays, scales = expit(point[: len(start)]), np.exp(point[len(start) :])
        return tuple(Buffer(float(decay), float(scale)) for decay, scale in zip(decays, scales))

    def log_noise(point: NDArray[np.float64]) -> float:
        buffers = buffers_of(np.clip(point, -30.0, 30.0))
        excess = sum(one.scale for one in buffers) - 0.999
        return 30.0 + min(excess, 30.0) if excess > 0 else math.log(noise_of_buffers(num_rounds, separation, buffers))

    decays, scales = (np.array([getattr(one, name) for one in start]) for name in ("decay", "scale"))
    point = np.concatenate([logit(decays), np.log(scales)])
    point = minimize(log_noise, point, method="L-BFGS-B").x
    found = minimize(log_noise, point, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 1000})
    return float(math.exp(found.fun)), buffers_of(np.clip(found.x, -30.0, 30.0))

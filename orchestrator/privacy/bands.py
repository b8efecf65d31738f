"""How many rounds the matrix's noise is correlated over: the number of bands that leaves the least noise.

The bands' price is memory: the noise of as many rounds is kept, each as large as the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from orchestrator.privacy.correlated import ROUNDS_AHEAD
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.privacy.sensitivity import banded_squared, square_root_coefficients
from orchestrator.settings.model import num_trained
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

# The first column [bands] of the Toeplitz matrix that shapes the noise.
Coefficients = Callable[[int], NDArray[np.float64]]

_FLOAT32_BYTES = 4
_FORMER_BANDS = 64  # what every long run had before the number was chosen


@dataclass(frozen=True)
class Bands:
    """Holds a number of bands and what it comes to.

    Attributes:
      bands: rounds over which the noise is correlated.
      noise: the root mean square, over the rounds, of the running sum's noise, times the sensitivity. At equal privacy
        the noise in the model is proportional to it.
      memory_bytes: what the noise keeps in memory.
    """

    bands: int
    noise: float
    memory_bytes: int


def noise_of_bands(
    num_rounds: int, separation: int, bands: int, coefficients: Coefficients = square_root_coefficients
) -> float:
    """Returns the root mean square of the running sum's noise, times the sensitivity: see Bands.noise.

    The error of the running sums is the Toeplitz matrix A C^-1, where A adds up and C has the coefficients; its
    first column is the series 1 / ((1 - x) c(x)), and the variance after a round is the sum of its squares so far.

    Source: Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153, equation 1 and section 4.

    >>> round(noise_of_bands(2000, 313, 64), 2), round(noise_of_bands(2000, 313, 313), 2)
    (15.32, 9.78)
    """
    own = coefficients(bands)
    impulse = np.zeros(num_rounds)
    impulse[0] = 1.0
    column = lfilter([1.0], np.convolve([1.0, -1.0], own), impulse)
    rms = math.sqrt(float(np.cumsum(np.square(column)).mean()))
    return rms * math.sqrt(banded_squared(own, -(-num_rounds // separation)))


def choose_bands(
    num_rounds: int, separation: int, most: int, coefficients: Coefficients = square_root_coefficients
) -> int:
    """Returns the number of bands with the least noise, at most `most`, the separation and the rounds.

    More bands take more noise back and raise the sensitivity: the noise falls to its least and rises from there, so
    halving finds it.

    >>> choose_bands(2000, 313, 1000), choose_bands(2000, 313, 100), choose_bands(5, 100, 1000)
    (313, 100, 4)
    """

    def noise(bands: int) -> float:
        return noise_of_bands(num_rounds, separation, bands, coefficients)

    low, high = 1, max(1, min(most, separation, num_rounds))
    while low < high:
        middle = (low + high) // 2
        if noise(middle + 1) < noise(middle):
            low = middle + 1
        else:
            high = middle
    return low


def bands_in_memory(config: RunConfig) -> int:
    """Returns how many bands the memory limit allows for a model of the settings' size; at least 1."""
    limit_bytes = config.privacy.noise_memory_mib << 20
    return max(1, limit_bytes // (_FLOAT32_BYTES * num_trained(config.model)) - (ROUNDS_AHEAD - 1))


def bands_of(config: RunConfig, separation: int) -> int:
    """Returns the number of bands with the least noise in the memory limit.

    It is that of the run's mechanism, or of a matrix in its place if the mechanism has no bands.
    """
    return choose_bands(config.rounds.count, separation, bands_in_memory(config), _coefficients(config.privacy))


def compare_bands(config: RunConfig, separation: int, bands: int) -> tuple[Bands, ...]:
    """Returns a run's number of bands beside what it could be: 1, the former default, and the best for any memory."""
    num_rounds, num_weights, coefficients = (
        config.rounds.count,
        num_trained(config.model),
        _coefficients(config.privacy),
    )
    best = choose_bands(num_rounds, separation, separation, coefficients)
    return tuple(
        Bands(
            number,
            noise_of_bands(num_rounds, separation, number, coefficients),
            _FLOAT32_BYTES * num_weights * (number - 1 + ROUNDS_AHEAD) if number > 1 else 0,
        )
        for number in sorted({1, min(separation, _FORMER_BANDS), best, bands})
    )


def bands_text(config: RunConfig) -> str:
    """Says in a line what was chosen and what it would be otherwise, for a resolved configuration.

    >>> from orchestrator.settings.files import read_config
    >>> bands_text(read_config(preset="private", overrides={"privacy.bands": 10, "privacy.separation": 10}))
    'noise over 10 bands, whose rms error x sensitivity is 11.32 (1 band: 26.94)'
    """
    privacy = config.privacy
    rows = compare_bands(config, privacy.separation, privacy.bands)
    own = next(row for row in rows if row.bands == privacy.bands)
    others = ", ".join(f"{count_text(row.bands, 'band')}: {row.noise:.2f}" for row in rows if row is not own)
    text = f"noise over {count_text(own.bands, 'band')}, whose rms error x sensitivity is {own.noise:.2f}"
    return f"{text} ({others})" if others else text


def _coefficients(privacy: PrivacyConfig) -> Coefficients:
    kind = MECHANISMS.get(privacy.mechanism)
    return kind.coefficients if kind is not None and kind.coefficients is not None else square_root_coefficients

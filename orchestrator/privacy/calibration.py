"""What the settings of privacy leave open, filled in: delta, separation, bands or buffers, and a budget's noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from orchestrator.errors import ConfigError
from orchestrator.privacy.accounting import noise_for
from orchestrator.privacy.bands import bands_of
from orchestrator.privacy.buffers import choose_buffers
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.cohort import largest_separation, require_separation
from orchestrator.settings.kinds import kind_of
from orchestrator.settings.noise_shape import INDEPENDENT, NoiseShape

if TYPE_CHECKING:
    from orchestrator.settings.run_config import RunConfig


def default_delta(num_people: int) -> float:
    """Returns a delta below 1 / people, by the factor people^0.1: 1.9 for 700 people, 2.5 for 10,000.

    >>> round(default_delta(1000), 7)
    0.0005012
    """
    return float(num_people) ** -1.1


def resolve_privacy(config: RunConfig, num_people: int) -> RunConfig:
    """Returns the configuration with nothing of [privacy] left open; without a mechanism, the configuration as it is.

    Resolving a second time changes nothing.

    Raises:
      ConfigError: delta is above 1 / people, or the separation can't be kept.
    """
    privacy, rounds = config.privacy, config.rounds
    if not privacy.traits.adds_noise:
        return config
    if privacy.delta > 1.0 / num_people:
        raise ConfigError(
            f"privacy.delta = {privacy.delta:g}: with {num_people} training people it may be at most "
            f"{1.0 / num_people:.2e}, or publishing somebody's whole text would count as private; lower it"
        )
    delta = privacy.delta or default_delta(num_people)
    separation = privacy.separation or largest_separation(num_people, rounds.cohort_size)
    require_separation(separation, num_people, rounds.cohort_size)
    shape = shape_of(config, privacy.mechanism, separation)
    if shape.bands > separation:
        raise ConfigError(
            f"privacy.bands = {shape.bands}, privacy.separation = {separation}: a person's participations would share "
            "rows of the matrix; lower the first"
        )
    noise = privacy.noise_multiplier or noise_of_budget(
        privacy.mechanism, privacy.epsilon, delta, rounds.count, separation, shape
    )
    shaped = privacy.with_shape(shape)
    resolved = msgspec.structs.replace(shaped, delta=delta, separation=separation, noise_multiplier=noise)
    if privacy.adaptive_clip:
        count_noise = privacy.count_noise or max(rounds.cohort_size / 20, 1.6 * noise)
        update_noise(noise, count_noise)
        resolved = msgspec.structs.replace(resolved, count_noise=count_noise)
    return msgspec.structs.replace(config, privacy=resolved)


def shape_of(config: RunConfig, mechanism: str, separation: int) -> NoiseShape:
    """Returns what shapes the noise of a mechanism in a run: what the run has, else what leaves the least noise.

    Raises:
      ConfigError: no row has this name.
    """
    traits, privacy = kind_of(MECHANISMS, "privacy.mechanism", mechanism).traits, config.privacy
    if traits.has_buffers:
        return NoiseShape(buffers=privacy.shape.buffers or choose_buffers(config.rounds.count, separation))
    if traits.has_bands:  # a run without bands has 1 in its settings
        return NoiseShape(bands=(privacy.bands if privacy.traits.has_bands else 0) or bands_of(config, separation))
    return INDEPENDENT


def planned_squared(mechanism: str, num_rounds: int, separation: int, shape: NoiseShape = INDEPENDENT) -> float:
    """Returns the squared sensitivity of all rounds together, for a person who takes part at each of their turns.

    >>> planned_squared("central", 100, 25)
    4.0
    """
    return kind_of(MECHANISMS, "privacy.mechanism", mechanism).planned_squared(num_rounds, separation, shape)


def noise_of_budget(
    mechanism: str, epsilon: float, delta: float, num_rounds: int, separation: int, shape: NoiseShape = INDEPENDENT
) -> float:
    """Returns the noise multiplier with which all rounds together cost epsilon at delta."""
    squared = planned_squared(mechanism, num_rounds, separation, shape)
    return math.sqrt(squared) * noise_for(epsilon, delta, is_gaussian=MECHANISMS[mechanism].traits.is_gaussian)


def update_noise(noise_multiplier: float, count_noise: float) -> float:
    """Returns the noise multiplier for the updates, when the count of clients under the clip gets noise of its own.

    Both together cost what one release with `noise_multiplier` costs. A client moves the count by 1: zeros are under
    the clip, a clipped update is not. (The paper centres the bits; there a client that is absent counts half.)

    Raises:
      ConfigError: the count alone would cost more.

    Source: Andrew et al. 2021, https://arxiv.org/abs/1905.03871, theorem 1.

    >>> round(update_noise(1.0, 1.6), 4)
    1.281
    """
    rest = noise_multiplier**-2 - count_noise**-2
    if rest <= 0:
        raise ConfigError(
            f"privacy.count_noise = {count_noise:g}: the count alone would cost more than privacy.noise_multiplier = "
            f"{noise_multiplier:g} allows; raise the first above {noise_multiplier:g}"
        )
    return rest**-0.5

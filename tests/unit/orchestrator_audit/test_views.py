"""The noise of a view."""

from __future__ import annotations

import pytest

from orchestrator.audit.views import Noise, noise_of
from orchestrator.settings.privacy import PrivacyConfig

CENTRAL = PrivacyConfig(mechanism="central", noise_multiplier=2.0, clip_norm=0.5)


def test_a_run_without_noise_shows_an_example_or_what_was_asked_for():
    assert noise_of(PrivacyConfig(), 10, None) == Noise(1.0, "example", 0.0)
    assert noise_of(PrivacyConfig(), 10, None, given=0.0) == Noise(0.0, "given", 0.0)


def test_a_run_shows_its_own_noise_under_its_own_clip():
    assert noise_of(CENTRAL, 10, None) == Noise(2.0, "run", 0.5)
    assert noise_of(CENTRAL, 10, 0.25) == Noise(2.0, "run", 0.25)  # where an adaptive clip stands
    assert noise_of(CENTRAL, 10, None, given=3.0) == Noise(3.0, "given", 0.5)


def test_the_count_of_an_adaptive_clip_leaves_less_room_for_the_update():
    """The two noises together cost what the multiplier says: 1 / 2**2 = 1 / z**2 + 1 / 5**2."""
    adaptive = PrivacyConfig(
        mechanism="central", noise_multiplier=2.0, clip_norm=0.5, adaptive_clip=True, count_noise=5.0
    )
    assert noise_of(adaptive, 10, None).multiplier == pytest.approx((1 / 4 - 1 / 25) ** -0.5)

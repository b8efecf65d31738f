"""The adaptive clip finds the quantile that it is set to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.rounds.adaptive_clip import AdaptiveClip


@pytest.mark.parametrize("start", [0.01, 300.0])
def test_adaptive_clip_finds_the_quantile(start):
    norms = np.random.default_rng(0).lognormal(0.0, 0.5, 1_000)
    clip = AdaptiveClip(clip_norm=start, target_quantile=0.8)
    for _ in range(300):
        clip = clip.after(float(np.mean(norms <= clip.clip_norm)))
    assert clip.clip_norm == pytest.approx(np.quantile(norms, 0.8), rel=0.02)


@pytest.mark.parametrize("field", [{"clip_norm": 0.0}, {"target_quantile": 1.5}, {"learning_rate": -0.1}])
def test_adaptive_clip_refuses_parameters_out_of_range(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        AdaptiveClip(**{"clip_norm": 1.0, **field})


def test_adaptive_clip_refuses_a_share_that_is_not_finite():
    with pytest.raises(ValueError, match="share_under_clip"):
        AdaptiveClip(clip_norm=1.0).after(math.nan)

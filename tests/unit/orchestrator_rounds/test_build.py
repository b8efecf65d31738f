"""The parts of a round: settings that no sum could carry are refused before anything runs."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.rounds.build import model_size, require_summable
from orchestrator.settings.files import read_config
from orchestrator.settings.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_the_grid_of_each_preset_is_fine_enough(preset):
    require_summable(read_config(preset=preset))


@pytest.mark.parametrize("aggregator", ["plain", "secagg", "encrypted", "split"])
def test_a_clip_norm_that_would_round_updates_away_is_refused(aggregator):
    """5000 * 64 + ... weights, 10 clients, 28 bits: 1e9 / 2**27 / 2 * sqrt(weights / 10) is hundreds."""
    settings = {"aggregation.aggregator": aggregator, "aggregation.clip_norm": 1e9}
    with pytest.raises(ConfigError, match=r"aggregation.clip_norm = 1e\+09: .* lower it to \d+ or less"):
        require_summable(read_config(overrides=settings))


def test_the_clip_norm_of_a_mechanism_is_looked_at_in_its_place():
    require_summable(read_config(preset="private", overrides={"aggregation.clip_norm": 1e9}))
    with pytest.raises(ConfigError, match=r"privacy.clip_norm = 1e\+09"):
        require_summable(read_config(preset="private", overrides={"privacy.clip_norm": 1e9}))


def test_a_model_of_a_billion_weights_is_refused_by_name():
    with pytest.raises(ConfigError, match="model.num_cells = 1000000000: the model would have"):
        model_size(read_config(overrides={"model.num_cells": 10**9}).model, 100)
    assert model_size(read_config().model, 100).vocabulary_size == 100

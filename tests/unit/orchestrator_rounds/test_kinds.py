"""The kinds that a setting names: each has its row, and an unknown one is refused."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.settings.run_config import KINDS, RunConfig
from orchestrator.settings.sections import AggregationConfig
from tff_pipelines.algorithms import ALGORITHMS


def test_an_aggregator_that_nobody_knows_never_sums():
    unknown = AggregationConfig(aggregator="secag")
    for refused in (lambda: build_aggregator(unknown), lambda: RunConfig(aggregation=unknown)):
        with pytest.raises(
            ConfigError, match=r"^aggregation.aggregator = 'secag': must be plain, secagg, encrypted or split$"
        ):
            refused()


def test_what_can_be_set_is_what_is_there():
    """No name without a row, and no row that can't be named."""
    assert KINDS["aggregation.aggregator"].keys() == SUMS.keys()
    assert KINDS["privacy.mechanism"].keys() == {"none", *MECHANISMS}
    assert all(kind.traits is KINDS["privacy.mechanism"][name] for name, kind in MECHANISMS.items())
    assert KINDS["server.algorithm"] is ALGORITHMS
    assert {"client.runtime", "client.schedule", "client.weighting", "server.schedule", "fleet.policy"} < set(KINDS)
    for name, kind in MECHANISMS.items():
        assert (kind.client_noise is not None) == kind.traits.from_clients, name
        assert (kind.sequence is not None) == kind.traits.is_correlated, name

"""Which privacy settings are refused, and what a budget alone sets."""

from __future__ import annotations

import pytest
from private_round import PEOPLE, run, settings

from orchestrator.errors import ConfigError
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import Ledger, LedgerHead
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.settings.run_config import RunConfig


def test_a_mechanism_that_nobody_knows_adds_no_noise_silently(tmp_path):
    with pytest.raises(ConfigError, match=r"privacy\.mechanism = 'centrale': must be none, central, tree, matrix"):
        settings("centrale")
    head = LedgerHead("centrale", 1.0, 1.0, 100, 1e-5, 5.0, 1, 1, "-")
    with pytest.raises(ConfigError, match=r"privacy\.mechanism = 'centrale': must be "):
        Ledger(tmp_path, head)


def test_a_budget_alone_sets_a_noise_that_lasts_for_all_rounds(tmp_path):
    for mechanism in MECHANISMS:
        config = settings(
            mechanism,
            privacy__noise_multiplier=0.0,
            privacy__epsilon=5.0,
            rounds__count=12,
            aggregation__aggregator="secagg",
        )
        _, reports = run(config, tmp_path / mechanism if (tmp_path / mechanism).mkdir() is None else None, 12)
        assert reports[-1].epsilon <= 5.0
        assert resolve_privacy(config, len(PEOPLE)) == config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy__clip_norm": 0.0}, "privacy.clip_norm = 0.0: noise without clipping"),
        ({"client__weighting": "tokens"}, "client.weighting = tokens: weights that depend on example counts"),
        ({"client__weighting": "examples"}, "weights that depend on example counts"),
        ({"privacy__noise_multiplier": 0.0}, "neither noise nor a budget"),
        ({"model__start_from_word_counts": True}, "without any noise"),
        ({"privacy__delta": 0.06}, "privacy.delta = 0.06: with 20 training people it may be at most 5.00e-02"),
        ({"privacy__separation": 5}, "privacy.separation = 5: 20 people in cohorts of 5 can keep 4 at most"),
        ({"mechanism": "matrix", "privacy__bands": 5}, "privacy.bands = 5, privacy.separation = 4"),
        ({"mechanism": "tree", "privacy__bands": 5}, "only matrix has bands"),
        ({"mechanism": "matrix", "privacy__buffers": "0.5:0.4"}, "only blt has buffers"),
        ({"mechanism": "distributed", "aggregation__aggregator": "plain"}, "under a part of the noise only"),
        ({"mechanism": "tree", "privacy__adaptive_clip": True}, "made for one clip norm"),
        ({"mechanism": "none"}, "no mechanism adds noise"),
        ({"privacy__adaptive_clip": True, "privacy__count_noise": 0.4}, "the count alone would cost more"),
        ({"mechanism": "tree", "fleet__policy": "sync"}, "cohorts that the server draws"),
    ],
)
def test_contradictions_are_refused_with_one_line(changes, says):
    with pytest.raises(ConfigError) as error:
        settings(**changes)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_mechanism_nothing_is_resolved():
    config = RunConfig()
    assert resolve_privacy(config, 800) is config

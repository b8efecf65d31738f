"""Settings of a Keras model's rounds: only those that are read may be given."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from orchestrator.errors import ConfigError
from orchestrator.settings.files import flat_settings
from orchestrator.settings.keras import READ, keras_config, with_most_examples
from orchestrator.settings.run_config import RunConfig


@pytest.mark.parametrize(
    "setting",
    ["client.dropout", "client.proximal", "client.clip_norm", "client.runtime", "client.length_buckets",
     "data.max_words", "model.kind", "fleet.policy", "audit.canaries", "evaluation.max_sentences"],
)  # fmt: skip
def test_a_setting_that_nothing_reads_is_refused(setting):
    value = flat_settings(RunConfig())[setting]
    with pytest.raises(ConfigError, match=f"{setting} = .*do not read this setting"):
        keras_config({setting: value})


def test_every_pattern_names_a_setting_and_each_other_mistake_is_told_as_in_a_run():
    known = flat_settings(RunConfig())
    assert all(any(fnmatch(name, pattern) for name in known) for pattern in READ)
    for given, reason in (
        ({"rounds.cuont": 3}, "did you mean rounds.count"),
        ({"aggregation.aggregator": "sum"}, "must be plain, secagg, encrypted or split"),
        ({"client.learning_rate": -1.0}, "client.learning_rate = -1.0: must be"),
        ({"privacy.mechanism": "central", "privacy.clip_norm": 1.0}, "neither noise nor a budget"),
        ({"privacy.epsilon": 1.0}, "no mechanism adds noise"),
        ({"privacy.mechanism": "central", "privacy.clip_norm": 1.0, "privacy.epsilon": 1.0}, "weighting"),
    ):
        with pytest.raises(ConfigError, match=reason):
            keras_config(given)


def test_the_most_that_a_person_has_bounds_what_an_update_may_count():
    config = with_most_examples(keras_config({"client.max_sentences": 500}), 40)
    assert min(config.client.max_sentences, config.data.max_sentences_train) == 40

"""The rules on differential privacy: what a mechanism needs of the other settings, and which of its own it reads."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.settings.kinds import WEIGHTINGS
from orchestrator.settings.model import ModelConfig
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.sections import AggregationConfig, ClientConfig
from orchestrator.settings.types import Rule


def privacy_rules(
    privacy: PrivacyConfig, client: ClientConfig, model: ModelConfig, aggregation: AggregationConfig
) -> Iterator[Rule]:
    """Yields the rules on differential privacy; see orchestrator.settings.run_config.check_rules."""
    yield (
        not privacy.adaptive_clip or privacy.traits.allows_adaptive_clip,
        ("privacy.adaptive_clip", "privacy.mechanism"),
        "noise that clients add, or that rounds share, is made for one clip norm; take central, or a fixed clip",
    )
    yield (
        privacy.bands <= 1 or privacy.traits.has_bands,
        ("privacy.mechanism", "privacy.bands"),
        "only matrix has bands; take it, or set the second to 0",
    )
    yield (
        not privacy.buffers or privacy.traits.has_buffers,
        ("privacy.mechanism", "privacy.buffers"),
        "only blt has buffers; take it, or leave the second empty",
    )
    if not privacy.traits.adds_noise:
        yield (
            privacy.noise_multiplier == 0.0 and privacy.epsilon == 0.0,
            ("privacy.mechanism", "privacy.noise_multiplier", "privacy.epsilon"),
            "no mechanism adds noise or keeps a budget; name one, or set both to 0",
        )
    else:
        yield from _noise_rules(privacy, client, model, aggregation)


def _noise_rules(
    privacy: PrivacyConfig, client: ClientConfig, model: ModelConfig, aggregation: AggregationConfig
) -> Iterator[Rule]:
    mechanism = ("privacy.mechanism",)
    yield (
        privacy.clip_norm > 0.0,
        (*mechanism, "privacy.clip_norm"),
        "noise without clipping hides nobody whose update is long; set the second to about the median update norm",
    )
    yield (
        privacy.noise_multiplier > 0.0 or privacy.epsilon > 0.0,
        ("privacy.noise_multiplier", "privacy.epsilon"),
        "neither noise nor a budget to derive it from; set one",
    )
    yield (
        not WEIGHTINGS[client.weighting].depends_on_text,
        (*mechanism, "client.weighting"),
        "weights that depend on example counts tell of them, and let one person count for more; set it to 'equal'",
    )
    yield (
        not model.counts_words,
        (*mechanism, "model.start_from_word_counts"),
        "the counts of all words would be in the model without any noise; set the second to false",
    )
    yield (
        aggregation.traits.hides_updates or not privacy.traits.is_split,
        (*mechanism, "aggregation.aggregator"),
        "the server would see every update under a part of the noise only; take secagg, split, encrypted or central",
    )

"""Builds the parts of a round from the settings: encoder, batches, weighting, learning rates, aggregator, trainer.

Training in TFF, the transcript, the attack and the clients of a network run all take their parts from here, so that
they compute the same. TensorFlow is loaded by `first_weights` and `load_trainer` only.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Optional

import numpy as np

from models.batches import Batches, build_batches
from models.client_data import Sentences, sentences_of
from models.vocabulary import UNK
from models.weights import ModelSize, Shaped, Weights
from orchestrator.aggregator import Aggregator
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.rounds.adaptive_clip import AdaptiveClip
from orchestrator.rounds.groups import COMBINATIONS, Groups
from orchestrator.rounds.schedules import learning_rate_at
from orchestrator.rounds.sums import SUMS, Observer, SumKind
from orchestrator.seeds import Purpose, seed_sequence
from orchestrator.settings.cohorts import cohort_limit
from orchestrator.settings.kinds import WEIGHTINGS, kind_of
from orchestrator.settings.model import ModelConfig, frozen_places, num_trained
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig, ClientConfig

_MODULUS_BITS = 32
_MOST_WEIGHTS = 2**28  # a gigabyte of float32, of which a round holds several
_MOST_ROUNDING = 0.01  # of the encoder, as an L2 norm of the mean update

if TYPE_CHECKING:
    from models.local_training import Trainer


class NoStopwatch:
    """For a round whose stages nobody times. See orchestrator.rounds.types.Stopwatch."""

    def stage(self, name: str) -> AbstractContextManager:
        """Opens a context that does nothing."""
        return nullcontext()


def client_weight(client: ClientConfig, num_tokens: int, num_examples: int) -> float:
    """Returns what a client's update counts by in the mean."""
    weighting = kind_of(WEIGHTINGS, "client.weighting", client.weighting)
    return weighting.weight(num_tokens, num_examples)


def model_size(model: ModelConfig, vocabulary_size: int) -> ModelSize:
    """Returns the model's size; a small text may have fewer words than the configuration allows.

    Raises:
      ConfigError: the model would be too large.
    """
    size = model.size_with(vocabulary_size)
    if size.num_weights > _MOST_WEIGHTS:
        raise ConfigError(
            f"model.vocabulary_size = {size.vocabulary_size}, model.embedding_size = {size.embedding_size}, "
            f"model.num_cells = {size.num_cells}: the model would have {size.num_weights:,} weights, allowed are "
            f"{_MOST_WEIGHTS:,}; lower one"
        )
    return size


def first_weights(config: RunConfig, size: ModelSize, word_counts: Optional[np.ndarray]) -> Weights:
    """Returns a run's weights before its first round; see models.model.Model.initial_weights."""
    from models.model import load_model

    seed = int(seed_sequence(config.seed, Purpose.INITIAL_WEIGHTS).generate_state(1)[0])
    return load_model(size).initial_weights(seed, word_counts, config.model.initial_range)


def build_encoder(config: RunConfig, size: Shaped) -> Encoder:
    """Returns the encoder between updates and integers."""
    # Nobody has more sentences than the text's cap: a limit beyond it would only coarsen the grid.
    most_sentences = min(config.client.max_sentences, config.data.max_sentences_train) * config.client.epochs
    return Encoder(
        clip_norm=first_clip_norm(config.privacy, config.aggregation),
        num_clients=config.rounds.cohort_size,
        max_weight=client_weight(config.client, most_sentences * config.data.max_words, most_sentences),
        shapes=size.shapes,
        bits=bits_under_noise(config),
        count_under_clip=config.privacy.adaptive_clip,
        least_weight=1.0,  # everybody has a sentence, with a word or its end
        frozen=frozen_places(config.model, size),
    )


def first_clip_norm(privacy: PrivacyConfig, aggregation: AggregationConfig) -> float:
    """Returns the clip norm of the first round, which is that of all rounds if it does not adapt."""
    return privacy.clip_norm if privacy.traits.adds_noise else aggregation.clip_norm


def bits_under_noise(config: RunConfig) -> Optional[int]:
    """Returns the bits of a coordinate that leave room for the clients' noise; None if clients add none.

    A sum must stay below 2**31 with ten standard deviations of noise on top of the longest updates in one coordinate.

    Raises:
      ValueError: the noise multiplier is still open.
    """
    privacy, num_clients = config.privacy, config.rounds.cohort_size
    if not privacy.traits.from_clients:
        return None
    if privacy.noise_multiplier <= 0:
        raise ValueError(f"noise_multiplier must be resolved, got noise_multiplier={privacy.noise_multiplier}")
    noisy_sums = num_clients if privacy.traits.releases_uploads else num_clients / config.aggregation.min_survivors
    clips = num_clients + 10.0 * privacy.noise_multiplier * math.sqrt(noisy_sums)
    return min(_MODULUS_BITS - (num_clients - 1).bit_length(), int(_MODULUS_BITS - math.log2(clips)))


def require_all_train(model: ModelConfig) -> None:
    """Refuses frozen weights where clients train an exported model, or send all of its weights.

    Raises:
      ConfigError: the settings freeze some.
    """
    if model.frozen_names:
        raise ConfigError(
            f"model.frozen = {model.frozen!r}: clients outside this process train all of a model's weights: leave it "
            "empty, or train by fedkeys train"
        )


def build_adaptive_clip(privacy: PrivacyConfig, aggregation: AggregationConfig) -> Optional[AdaptiveClip]:
    """Returns the clip norm that follows the updates' norms; None if the clip norm is fixed."""
    if not privacy.adaptive_clip:
        return None
    return AdaptiveClip(first_clip_norm(privacy, aggregation), privacy.clip_quantile, privacy.clip_learning_rate)


def build_aggregator(aggregation: AggregationConfig, observer: Optional[Observer] = None) -> Aggregator:
    """Returns the aggregator that the settings name; its libraries are loaded here.

    Args:
      aggregation: the section of the settings.
      observer: is shown every message that the server receives, by a sum that has messages: secagg.

    Raises:
      ConfigError: nobody knows the aggregator.
    """
    return _sum_kind(aggregation).build(aggregation, observer)


def build_groups(aggregation: AggregationConfig) -> Optional[Groups]:
    """Returns how a round's cohort is split; None if it is summed as a whole."""
    if aggregation.groups == 1:
        return None
    return Groups(aggregation.groups, kind_of(COMBINATIONS, "aggregation.robust", aggregation.robust))


def require_summable(config: RunConfig, num_weights: Optional[int] = None) -> None:
    """Checks before anything runs that the aggregator can protect and sum cohorts of the configured size.

    Args:
      config: the settings.
      num_weights: of the model; None takes those of the network that the settings name.

    Raises:
      ConfigError: it can't, or nobody knows it, or the encoder's grid is too coarse for updates.
    """
    # A small text has fewer words; model_size refuses what is more.
    _require_fine_grid(config, num_weights or min(num_trained(config.model), _MOST_WEIGHTS))
    aggregation = config.aggregation
    kind = _sum_kind(aggregation)
    smallest, largest = config.rounds.cohort_size // aggregation.groups, cohort_limit(config)
    for num_clients in {smallest, -(-largest // aggregation.groups)} if aggregation.groups > 1 else {largest}:
        try:
            kind.require_room(aggregation, num_clients)
        except (OrchestratorError, ValueError) as error:
            in_groups = f" in aggregation.groups = {aggregation.groups}" if aggregation.groups > 1 else ""
            raise ConfigError(
                f"rounds.cohort_size = {config.rounds.cohort_size}{in_groups} with aggregation.aggregator = "
                f"{aggregation.aggregator!r}: {error}"
            ) from None


def _require_fine_grid(config: RunConfig, num_weights: int) -> None:
    """Refuses a clip norm so large that rounding leaves nothing but noise: the encoder's grid spans the clip norm."""
    cohort_size = config.rounds.cohort_size
    clip_norm = first_clip_norm(config.privacy, config.aggregation)
    bits = _MODULUS_BITS - (cohort_size - 1).bit_length()
    # Rounding has a standard deviation of up to half a step in each weight; a mean averages it over the cohort.
    rounding = clip_norm / 2.0 ** (bits - 1) / 2.0 * math.sqrt(num_weights / cohort_size)
    if rounding > _MOST_ROUNDING:
        name = "privacy.clip_norm" if config.privacy.traits.adds_noise else "aggregation.clip_norm"
        raise ConfigError(
            f"{name} = {clip_norm:g}: the encoder's grid would be so coarse that rounding moves a mean update by "
            f"{rounding:.2g} (L2 norm), where updates are about 1 long: lower it to "
            f"{_most_clip(clip_norm, rounding):g} or less"
        )


def _most_clip(clip_norm: float, rounding: float) -> float:
    """Returns the largest clip norm that passes, rounded down to one digit."""
    most = clip_norm * _MOST_ROUNDING / rounding
    unit = 10.0 ** math.floor(math.log10(most))
    return math.floor(most / unit) * unit


def _sum_kind(aggregation: AggregationConfig) -> SumKind:
    return kind_of(SUMS, "aggregation.aggregator", aggregation.aggregator)


def learning_rates(config: RunConfig, round_num: int) -> tuple[float, float]:
    """Returns (the clients', the server's) learning rate in a round."""
    server, rounds = config.server, config.rounds

    def rate(base: float, schedule: str, warmup_rounds: int) -> float:
        return learning_rate_at(
            round_num, rounds.count, base, schedule, server.decay_start, server.decay_floor, warmup_rounds
        )

    return (
        rate(config.client.learning_rate, config.client.schedule, 0),
        rate(server.learning_rate, server.schedule, server.warmup_rounds),
    )


def cut(sentences: Sentences, num_rows: int) -> Sentences:
    """Replaces ids from num_rows on by UNK: the model has no rows for them."""
    if not sentences:
        return sentences
    ids = np.concatenate(sentences)
    return sentences_of(np.where(ids >= num_rows, UNK, ids), map(len, sentences))


def draw_batches(config: RunConfig, sentences: Sentences, rng: np.random.Generator) -> Batches:
    """Draws a client's batches of one round from sentences that `cut` has fitted to the model."""
    client = config.client
    return build_batches(
        sentences,
        batch_size=client.batch_size,
        time=config.data.max_words,
        max_sentences=client.max_sentences,
        epochs=client.epochs,
        length_buckets=client.length_buckets,
        rng=rng,
    )


def load_trainer(config: RunConfig, size: ModelSize) -> Trainer:
    """Returns what trains one client in this process; loads TensorFlow."""
    from models.local_training import build_trainer

    client = config.client
    return build_trainer(
        size, config.data.max_words, client.clip_norm, client.proximal, client.dropout, config.model.frozen_names
    )

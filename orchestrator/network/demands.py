"""What a client insists on, whatever the server says: which sum, in what crowd, and how much work a round may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.errors import SegmenterError
from models.segmentation import require_segmenter
from models.tokeniser import LATEST
from models.weights import ModelSize, Weights
from orchestrator.errors import ConfigError
from orchestrator.network.errors import DemandRefused
from orchestrator.secagg import messages
from orchestrator.secagg.graph import Policy
from orchestrator.settings.kinds import one_of_words
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig

# The stages of each kind of sum that clients on other machines can take part in.
STAGES = {
    "secagg": messages.STAGES,
    "encrypted": ("encrypt",),
    "split": (),  # the answer to the plan is all
}


_OPERATIONS_PER_S = 1e9  # multiplications and additions in float32; one core of a slow phone
_FLOAT_BYTES = 4
_COPIES_OF_WEIGHTS = 8  # as received, as trained, gradient, update, its encoding, masked, and two in between
_COPIES_OF_LOGITS = 3
_ARRAYS_OF_TEXT = 3  # tokens, targets, mask


def training_minutes(config: RunConfig, size: ModelSize) -> float:
    """Returns the minutes that a round's training takes at most, at a billion operations a second.

    A weight takes six operations for each word: two forward, four back.

    >>> from orchestrator.settings.files import read_config
    >>> round(training_minutes(read_config(preset="quality"), ModelSize(10_000, 96, 670)), 2)
    0.57
    """
    num_words = _num_sentences(config) * config.data.max_words
    return 6.0 * size.num_weights * num_words / _OPERATIONS_PER_S / 60.0


def training_bytes(config: RunConfig, size: ModelSize) -> int:
    """Returns the bytes of memory that a round's training takes at most, besides those of TensorFlow.

    >>> from orchestrator.settings.files import read_config
    >>> round(training_bytes(read_config(preset="quality"), ModelSize(10_000, 96, 670)) / 2**20)
    87
    """
    batch_words = config.client.batch_size * config.data.max_words
    return _FLOAT_BYTES * (
        _COPIES_OF_WEIGHTS * (size.num_weights + size.num_cells * batch_words)
        + _COPIES_OF_LOGITS * batch_words * size.vocabulary_size
        + _ARRAYS_OF_TEXT * _num_sentences(config) * config.data.max_words
    )


def _num_sentences(config: RunConfig) -> int:
    return min(config.client.max_sentences, config.data.max_sentences_train) * config.client.epochs


@dataclass(frozen=True)
class Demands:
    """A client's own rules. The defaults are far beyond what a run on phones asks for.

    Attributes:
      policy: of secure aggregation; its min_survivors holds for every sum.
      aggregator: the only kind of sum that it takes part in.
      max_cohort: the most clients of a round.
      max_epochs: the most passes over its sentences in a round.
      max_sentences: the most sentences that it trains on in a round; one that comes in two epochs counts twice.
      max_batch_tokens: the most tokens of a batch, padding included.
      max_weights: the most weights of a model.
      max_minutes: the most minutes of training in a round, as `training_minutes` reckons them.
      max_memory_mib: the most memory that training takes, as `training_bytes` reckons it, in MiB.
      max_magnitude: the largest weight that a server may send; larger ones let training overflow at its will.
      max_learning_rate: the highest rate that it trains with.

    Raises:
      ConfigError: nobody knows the aggregator over a network.
    """

    policy: Policy
    aggregator: str = AggregationConfig().aggregator
    max_cohort: int = 10_000
    max_epochs: int = 100
    max_sentences: int = 100_000
    max_batch_tokens: int = 1_000_000
    max_weights: int = 1 << 26
    max_minutes: float = 30.0
    max_memory_mib: int = 4096
    max_magnitude: float = 1e3
    max_learning_rate: float = 10.0

    def __post_init__(self) -> None:
        if self.aggregator not in STAGES:
            raise ConfigError(f"--aggregator {self.aggregator}: over a network the sum is {one_of_words(STAGES)}")

    def check_run(self, config: RunConfig, num_words: int, num_helpers: int = 0) -> None:
        """Passes if the client takes part in such a run.

        What passes does not depend on the client's text: each figure is the most that the settings allow.

        Args:
          config: as the server sent it.
          num_words: in the word list that the server sent.
          num_helpers: whom the client seals for, in the split sum.

        Raises:
          DemandRefused: the run asks for another sum or for more work than the client does.
        """
        if config.aggregation.aggregator != self.aggregator:
            raise DemandRefused(
                f"the server runs the sum {config.aggregation.aggregator!r}, this client takes part in "
                f"{self.aggregator!r} only: agree on it, then name it by --aggregator"
            )
        if self.aggregator == "split" and config.aggregation.helpers != num_helpers:
            raise DemandRefused(
                f"the server's run has {config.aggregation.helpers} helpers, this client's helpers.pub names "
                f"{num_helpers}: agree on them"
            )
        client, data, size = config.client, config.data, config.model.size_with(num_words)
        if data.tokeniser != LATEST.version:
            raise DemandRefused(
                f"the run's words are those of tokeniser {data.tokeniser}, this client reads text by {LATEST.version}: "
                "take part in a run that was begun since"
            )
        try:
            require_segmenter(data.segmenter)
        except SegmenterError as error:
            raise DemandRefused(f"the run's words can't be cut here: {error}") from None
        for what, asked, most in (
            ("clients in a round", config.rounds.cohort_size, self.max_cohort),
            ("epochs", client.epochs, self.max_epochs),
            ("sentences to train on in a round", _num_sentences(config), self.max_sentences),
            ("tokens in a batch", client.batch_size * data.max_words, self.max_batch_tokens),
            ("weights in the model", size.num_weights, self.max_weights),
            ("minutes of training in a round", math.ceil(training_minutes(config, size)), self.max_minutes),
            ("MiB of memory", math.ceil(training_bytes(config, size) / 2**20), self.max_memory_mib),
        ):
            if not asked <= most:  # a limit that is no number allows nothing
                raise DemandRefused(f"the server asks for up to {asked} {what}, this client allows {most:g}")

    def check_round(self, round_num: int, config: RunConfig) -> None:
        """Passes if the run has such a round.

        Raises:
          DemandRefused: it has none: a client's work ends with the run's last round.
        """
        if not 1 <= round_num <= config.rounds.count:
            raise DemandRefused(f"the server asks for round {round_num} of a run of {config.rounds.count}")

    def check_plan(self, round_num: int, learning_rate: float, weights: Weights) -> None:
        """Passes if the client trains from such weights at such a rate.

        Raises:
          DemandRefused: one of them is not finite or beyond the client's limits.
        """
        if not 0.0 <= learning_rate <= self.max_learning_rate:
            raise DemandRefused(
                f"round {round_num}: the server asks for a learning rate of {learning_rate}, this client allows 0 to "
                f"{self.max_learning_rate:g}"
            )
        largest = float(np.max([np.max(np.abs(tensor), initial=0.0) for tensor in weights]))  # max() may lose a NaN
        if not (math.isfinite(largest) and largest <= self.max_magnitude):
            raise DemandRefused(
                f"round {round_num}: the server sends a weight of {largest:g}, this client allows "
                f"{self.max_magnitude:g}: training could overflow where the server wants it to"
            )

    def check_stage(self, stage: str, where: str) -> None:
        """Passes if the stage is one of the sum that the client takes part in.

        Raises:
          DemandRefused: it is none.
        """
        if stage not in STAGES[self.aggregator]:
            raise DemandRefused(f"{where}: there is no such stage in the sum {self.aggregator!r}")

"""The section of a run's settings about the next-word network."""

from __future__ import annotations

from typing import Annotated, Optional

import msgspec

from models.architectures import ARCHITECTURES, CIFG
from models.weights import ModelSize, Shaped, slots_of
from orchestrator.errors import ConfigError
from orchestrator.settings.types import Count, Positive, VocabularySize, one_of, says


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next-word network."""

    vocabulary_size: Annotated[
        VocabularySize,
        says("Rows of the embedding, for the most frequent words. The others become <unk> and count as misses."),
    ] = 5000
    embedding_size: Annotated[Count, says("Width of the embedding and of the projected state.")] = 64
    num_cells: Annotated[Count, says("Number of cells; of the transformer, the width inside a block.")] = 256
    initial_range: Annotated[Positive, says("The embedding starts uniformly between minus and plus this number.")] = (
        0.15
    )
    start_from_word_counts: Annotated[
        bool,
        says("Start the output bias at the log of the word counts, which a federated sum collects; not with a start."),
    ] = True
    start: Annotated[
        str,
        says(
            "Begin with the weights of another model: the folder of a run, of a phone bundle or of `fedkeys pretrain`; "
            "its words are mapped by name. Empty = fresh weights."
        ),
    ] = ""
    kind: Annotated[
        str,
        one_of(ARCHITECTURES),
        says("The kind of network; docs/models.md compares them. `fedkeys train --model` sets it to one of your own."),
    ] = CIFG

    frozen: Annotated[
        str,
        says(
            "Weights that no client trains, by their names with commas between them: they stay as the start has them, "
            "are not sent and get no noise. `embedding` is most of a small model. Empty = none."
        ),
    ] = ""

    @property
    def frozen_names(self) -> tuple[str, ...]:
        """The names of the weights that stay, as the setting has them."""
        return tuple(name.strip() for name in self.frozen.split(",")) if self.frozen else ()

    @property
    def size(self) -> ModelSize:
        """The model's size; a small text may have fewer words than this."""
        return self.size_with(self.vocabulary_size)

    def size_with(self, num_words: int) -> ModelSize:
        """Returns the model's size on a list of `num_words` words."""
        num_rows = min(self.vocabulary_size, num_words)
        return ModelSize(num_rows, self.embedding_size, self.num_cells, self.kind)

    @property
    def width_multiple(self) -> int:
        """The embedding's size must be a multiple of it. Needs no code of a network of somebody's own."""
        return ARCHITECTURES[self.kind].width_multiple if self.kind in ARCHITECTURES else 1

    @property
    def counts_words(self) -> bool:
        """True if a run counts words before its first round."""
        return self.start_from_word_counts and not self.start


def frozen_places(model: ModelConfig, size: Shaped) -> frozenset[int]:
    """Returns the places in the model's order of the weights that model.frozen names.

    Raises:
      ConfigError: the model has no weight of such a name, or no weight is left to train.
    """
    if not model.frozen_names:
        return frozenset()
    names = size.names if isinstance(size, ModelSize) else ()
    unknown = [name for name in model.frozen_names if name not in names]
    if unknown:
        has = f"its weights are {', '.join(names)}" if names else "which weights it has is not known here"
        raise ConfigError(f"model.frozen = {model.frozen}: the model has no weight {unknown[0]!r}: {has}")
    if set(names) <= set(model.frozen_names):
        raise ConfigError(f"model.frozen = {model.frozen}: no weight is left to train: leave one out")
    return frozenset(names.index(name) for name in model.frozen_names)


def num_trained(model: ModelConfig, size: Optional[ModelSize] = None) -> int:
    """Returns how many weights of a model clients train.

    Args:
      model: the settings.
      size: of the model; None takes the settings', though that of a text with fewer words has fewer.

    Raises: as frozen_places.
    """
    size = size or model.size
    return sum(slots_of(size.shapes, frozen_places(model, size)))

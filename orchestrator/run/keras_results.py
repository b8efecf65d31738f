"""What a Keras model's rounds come to: weights, a line for each round, and a score of each person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from models.corpus import ClientId
from models.files import write_atomically
from models.weights import Weights, weights_to_bytes
from orchestrator.errors import Diverged
from orchestrator.run.lines import Round

if TYPE_CHECKING:
    from edge.export.keras_network import Network


@dataclass(frozen=True)
class PeopleScores:
    """How well the weights do for each person, and how far people are apart.

    Attributes:
      name: "accuracy" of a classifier, or "mean_squared_error" of a regressor.
      by_person: the score of each person's own examples.
      pooled: over all people's examples together.
      loss: as pooled.
    """

    name: str
    by_person: Mapping[ClientId, float]
    pooled: float
    loss: float

    @property
    def mean(self) -> float:
        """Over people, each counting alike."""
        return float(np.mean(list(self.by_person.values())))

    @property
    def stddev(self) -> float:
        """Over people: the spread."""
        return float(np.std(list(self.by_person.values())))

    @property
    def worst(self) -> tuple[ClientId, float]:
        """The person whom the model serves worst, with their score."""
        worst = min if self.name == "accuracy" else max
        return worst(self.by_person.items(), key=lambda item: item[1])


def people_scores(people: Sequence[ClientId], sums: Sequence[Mapping[str, float]]) -> PeopleScores:
    """Returns the scores of some people.

    Args:
      people: their names.
      sums: of each one, as the exported model's eval signature gives them.

    Raises:
      Diverged: somebody's loss is not finite.

    >>> scores = people_scores(["ann", "bob"], [{"hits": 3.0, "num_examples": 4.0, "loss_sum": 2.0},
    ...                                         {"hits": 1.0, "num_examples": 4.0, "loss_sum": 6.0}])
    >>> scores.by_person, scores.pooled, scores.loss, scores.stddev, scores.worst
    ({'ann': 0.75, 'bob': 0.25}, 0.5, 1.0, 0.25, ('bob', 0.25))
    """
    kind = "hits" if "hits" in sums[0] else "squared_error"
    for who, own in zip(people, sums):
        if not np.isfinite([float(own["loss_sum"]), float(own[kind])]).all():
            raise Diverged(
                f"the loss on the examples of {who!r} is not finite: lower client.learning_rate or "
                "server.learning_rate, or scale these arrays down"
            )
    num_examples = sum(float(own["num_examples"]) for own in sums)
    return PeopleScores(
        name="accuracy" if kind == "hits" else "mean_squared_error",
        by_person={who: float(own[kind]) / float(own["num_examples"]) for who, own in zip(people, sums)},
        pooled=sum(float(own[kind]) for own in sums) / num_examples,
        loss=sum(float(own["loss_sum"]) for own in sums) / num_examples,
    )


@dataclass(frozen=True, eq=False)
class KerasTraining:
    """The result of a Keras model's rounds.

    Attributes:
      source: what the model's file is called.
      network: the model, with the trained weights as those that training would go on from.
      rounds: a line for each, oldest first; those with an evaluation have its figures among their metrics.
      scores: of the test people at the end; None without any.
      epsilon: of all these rounds, at their delta; what the model was trained on before comes on top. None without
        differential privacy.
    """

    source: str
    network: Network
    rounds: tuple[Round, ...]
    scores: Optional[PeopleScores]
    epsilon: Optional[float]

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The weights that trained, by their Keras names, in the order in which they travel."""
        return {weight.name: weight.start for weight in self.network.trainable}

    def save_weights(self, path: Path) -> None:
        """Writes the weights as `fedkeys device-update --weights` and `fedkeys export --weights` take them."""
        write_atomically(Path(path), weights_to_bytes(_values(self.weights)))

    def save_npz(self, path: Path) -> None:
        """Writes the weights as NumPy's .npz, under their Keras names."""
        import io

        buffer = io.BytesIO()
        np.savez(buffer, **self.weights)
        write_atomically(Path(path), buffer.getvalue())

    def save_keras(self, path: Path) -> None:
        """Writes the model as a .keras file; adapters are added to the weights that they adapt.

        What the model was trained on before comes on top of `epsilon`: a second training of the same people costs them
        again.

        Raises:
          ExportError: the name does not end in .keras.
        """
        from edge.export.keras_weights import write_keras

        write_keras(self.network, Path(path))


def _values(weights: Mapping[str, np.ndarray]) -> Weights:
    return tuple(weights.values())

"""Canary clients that take part in a whole training, among its people: each sends a random direction, or zeros.

They are selected like anybody, keep their turns, go through the encoder, the sum and the noise, and the ledger charges
for them. A coin decides for each whether it is in: whoever is out sends zeros, which is what the ledger's neighbouring
runs differ by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData
from models.corpus import ClientId
from models.weights import ModelSize, Weights, flatten, slots_of, unflatten
from orchestrator.errors import ConfigError
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.audit import AuditConfig
from orchestrator.settings.model import frozen_places
from orchestrator.settings.run_config import RunConfig

_LONGER = 1.01  # than the clip norm, so that it is clipped as a person's longest updates are


@dataclass(frozen=True)
class CanaryClients:
    """The canary clients of a run; see orchestrator.rounds.types.Canaries.

    Attributes:
      seed: of the run; directions follow from it.
      members: their names.
      included: which of them are in, [members].
      shapes: of the model's tensors.
      frozen: places in `shapes` of tensors that nobody trains, nor a canary client.
    """

    seed: int
    members: tuple[ClientId, ...]
    included: NDArray[np.bool_]
    shapes: tuple[tuple[int, ...], ...]
    frozen: frozenset[int] = frozenset()

    def update(self, client_id: ClientId, clip_norm: float) -> Weights:
        """See orchestrator.rounds.types.Canaries.update."""
        number = self.members.index(client_id)
        if not self.included[number]:
            return tuple(np.zeros(shape, np.float32) for shape in self.shapes)
        direction = unit_direction(self._dim, self.seed, number) * np.float32(_LONGER * clip_norm)
        return unflatten(direction, self.shapes, self.frozen)

    def inner_products(self, tensors: Weights) -> list[float]:
        """See orchestrator.rounds.types.Canaries.inner_products."""
        return inner_products(flatten(tensors, self.frozen), self.seed, len(self.members)).tolist()

    @property
    def _dim(self) -> int:
        return sum(slots_of(self.shapes, self.frozen))


def build_canaries(config: RunConfig, size: ModelSize) -> Optional[CanaryClients]:
    """Returns a run's canary clients, which depend only on its seed; None if it has none."""
    members = canary_names(config.audit)
    if not members:
        return None
    included = simulation_rng(config.seed, Purpose.CANARIES).random(len(members)) < 0.5
    frozen = frozen_places(config.model, size)
    return CanaryClients(config.seed, members, included, size.shapes, frozen)


def canary_names(audit: AuditConfig) -> tuple[ClientId, ...]:
    """Returns the names of a run's canary clients."""
    return tuple(ClientId(f"canary/{number}") for number in range(audit.canaries))


def participants(config: RunConfig, data: ClientData) -> tuple[ClientId, ...]:
    """Returns who can be selected: the people who train, then the canary clients.

    Raises:
      ConfigError: a person has the name of a canary client.
    """
    canaries = canary_names(config.audit)
    both = sorted(set(canaries) & set(data.train))
    if both:
        raise ConfigError(f"audit.canaries: client {both[0]} of the text has a canary's name; rename that client")
    return (*data.train, *canaries)


def drawn_people(config: RunConfig, data: ClientData) -> tuple[ClientId, ...]:
    """Who is drawn for cohorts: the participants, and in their old places the names of people who were forgotten."""
    return (*data.roster, *participants(config, data)[len(data.train) :])


_ROWS = 32  # directions drawn at a time


def unit_direction(size: int, seed: int, number: int) -> NDArray[np.float32]:
    """Returns a random direction, float32 [size] of length 1, which depends only on seed and number."""
    direction = simulation_rng(seed, Purpose.CANARIES, 1 + number).standard_normal(size, np.float32)
    return direction / np.linalg.norm(direction)


def unit_directions(size: int, seed: int, numbers: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Yields these numbers' directions, some rows [rows, size] at a time; they are drawn again rather than kept."""
    for start in range(0, len(numbers), _ROWS):
        yield np.stack([unit_direction(size, seed, number) for number in numbers[start : start + _ROWS]])


def inner_products(vector: NDArray[np.floating], seed: int, count: int) -> NDArray[np.float64]:
    """Returns the inner product of a vector [size] with each of the first `count` directions, float64 [count]."""
    vector = vector.astype(np.float32)
    return np.concatenate([rows @ vector for rows in unit_directions(vector.size, seed, range(count))]).astype(float)

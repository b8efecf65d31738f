"""Python's participant beside a client in another language: it trains, and rounds, as it would in that one's place."""

from __future__ import annotations

import numpy as np

from orchestrator.network import messages
from orchestrator.network.client import Participant
from orchestrator.seeds import Purpose, simulation_rng


class Twin:
    """Trains for a client of another language, on the same text; takes the arguments of Participant."""

    def __init__(self, client_id, identity, enrolled, *rest, **others):
        self._participant = Participant(client_id, identity, enrolled, *rest, **others)
        self.journal, self._client_id = self._participant._journal, client_id
        self.aggregator, self.helpers = self._participant._demands.aggregator, self._participant._helpers

    def hear(self, setup):
        """Hears the settings and the words; from then on it can train."""
        self._participant.answer(setup)

    def trained(self, tensors, round_num, rate):
        """The update of a round, and its weight, from weights as flat arrays."""
        own = self._participant
        shaped = tuple(flat.reshape(shape) for flat, shape in zip(tensors, own._size.shapes))
        own._encoder = update = _Update()
        own._trained(own._config, messages.Plan(round_num, rate, memoryview(b"")), shaped)
        return [np.ascontiguousarray(tensor, "<f4") for tensor in update.delta], int(update.weight)

    def cut(self, flat):
        """The weights as flat arrays, one for each of the model's."""
        shapes = self._participant._size.shapes
        return np.split(flat, np.cumsum([np.prod(shape) for shape in shapes])[:-1])

    def rounding(self, round_num, dim):
        """What Python's client draws to round so many coordinates, and then the weight."""
        rng = simulation_rng(self._participant._config.seed, Purpose.ROUNDING, round_num, self._client_id)
        return rng.random(dim, dtype=np.float32), rng.random()


class _Update:
    """Takes an update where it would be encoded."""

    def encode(self, delta, weight, rng):
        self.delta, self.weight = delta, weight

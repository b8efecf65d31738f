"""Makes real updates of a run's clients again in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData
from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, Weights
from orchestrator.encoding import Encoder, l2_norm
from orchestrator.errors import RunFolderError
from orchestrator.rounds.build import build_encoder, client_weight, cut, draw_batches, learning_rates, load_trainer
from orchestrator.rounds.types import ServerState
from orchestrator.seeds import Purpose, dropout_seed, simulation_rng
from orchestrator.settings.run_config import RunConfig


@dataclass(frozen=True)
class AttackedUpdate:
    """A client's update, and the truth about it that the server should not learn."""

    client_id: ClientId
    delta: Weights  # server's minus client's
    weight: float
    typed: NDArray[np.bool_]  # [V]: the words in what it trained on
    sentences: tuple[tuple[int, ...], ...]  # distinct ones, cut to the model's words and length
    norm: float  # L2, before clipping


@dataclass(frozen=True)
class People:
    """The clients that are attacked, and those with whom they are summed."""

    targets: tuple[ClientId, ...]
    crowd: tuple[ClientId, ...]


def choose_people(
    data: ClientData, seed: int, round_num: int, client: Optional[str], num_sentences: int, num_targets: int
) -> People:
    """Draws targets who have enough sentences, `client` first if one is named; everybody else is the crowd.

    Raises:
      RunFolderError: `client` is no training person.
    """
    rng = simulation_rng(seed, Purpose.ATTACK, round_num)
    people = [tuple(data.train)[i] for i in rng.permutation(len(data.train))]
    if client is not None and client not in data.train:
        raise RunFolderError(f"client {client} is no training person of this run; these are: {_some(list(data.train))}")
    # People with too few sentences are attacked only if nobody has more. The sort is stable: chance decides the rest.
    by_length = sorted(people, key=lambda person: -min(num_sentences, len(data.train[person])))
    first = [person for person in by_length if person == client]
    targets = (first + [person for person in by_length if person != client])[:num_targets]
    return People(tuple(targets), tuple(person for person in people if person not in targets))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class UpdateMaker:
    """Trains clients from a checkpoint as the run's next round would, each on a few of its sentences."""

    def __init__(self, config: RunConfig, data: ClientData, state: ServerState, num_sentences: int):
        self.size = ModelSize.of(state.weights, config.model.kind)
        self._config, self._num_sentences = config, num_sentences
        self._data, self._weights = data, state.weights
        self.round_num = state.round_num + 1
        self._trainer = load_trainer(config, self.size)

    def updates(self, people: Sequence[ClientId], num_sentences: Optional[int] = None) -> Iterator[AttackedUpdate]:
        """Yields their updates, less those that diverged; num_sentences takes the place of the maker's."""
        client = msgspec.structs.replace(self._config.client, max_sentences=num_sentences or self._num_sentences)
        config, seed = msgspec.structs.replace(self._config, client=client), self._config.seed
        rate = learning_rates(config, min(self.round_num, config.rounds.count))[0]
        for person in people:
            own = cut(self._data.train[person], self.size.vocabulary_size)
            batches = draw_batches(config, own, simulation_rng(seed, Purpose.ATTACK, self.round_num, person))
            result = self._trainer(self._weights, rate, dropout_seed(seed, self.round_num), batches)
            if not result["is_finite"]:
                continue
            typed = np.zeros(self.size.vocabulary_size, bool)
            typed[batches.targets[batches.mask > 0]] = True
            typed[:NUM_SPECIAL] = False
            rows = zip(*(part.reshape(-1, config.data.max_words) for part in (batches.targets, batches.mask)))
            sentences = dict.fromkeys(tuple(map(int, row[mask > 0])) for row, mask in rows if mask[0])  # epochs repeat
            delta = tuple(result["delta"])
            yield AttackedUpdate(
                client_id=person,
                delta=delta,
                weight=client_weight(config.client, int(result["num_tokens"]), int(result["num_examples"])),
                typed=typed,
                sentences=tuple(sentences),
                norm=l2_norm(delta),
            )


def encoder_for(config: RunConfig, size: ModelSize, num_clients: int) -> Encoder:
    """Returns the run's encoder, with room for this many clients."""
    rounds = msgspec.structs.replace(config.rounds, cohort_size=num_clients)
    aggregation = msgspec.structs.replace(config.aggregation, min_survivors=min(2, num_clients))
    return build_encoder(msgspec.structs.replace(config, rounds=rounds, aggregation=aggregation), size)

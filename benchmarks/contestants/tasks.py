"""The works of the race: random text for fedkeys to read, and for the others the batches that its rounds make of it.

fedkeys draws a client's batches anew in each round, as in any run. They depend on the seed alone, so they are drawn
here too, and the other contestants get them ready-made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from contestants.work import (
    BATCH,
    CLIENT_LEARNING_RATE,
    SERVER_LEARNING_RATE,
    SERVER_MOMENTUM,
    ClientWork,
    Work,
)
from round_speed import client_batches

from models.vocabulary import NUM_SPECIAL, SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.rounds.build import draw_batches, first_weights, model_size
from orchestrator.rounds.cohort import everybody
from orchestrator.run.data import load_client_data
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.files import read_config, write_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.types import Setting

GBOARD = ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670)
SMALL = ModelSize(vocabulary_size=2000, embedding_size=32, num_cells=64)  # of the preset `private`
WORK_FILE, CONFIG_FILE = "work.npz", "config.toml"

_LETTERS = "bcdfgkmnpqrstvwz"  # of words that no tokeniser changes


@dataclass(frozen=True)
class Task:
    """A round's work: so many clients, of so many batches."""

    name: str
    num_clients: int
    num_batches: int
    real_share: float  # of the positions; the others are padding
    size: ModelSize = GBOARD
    of_secure_sum: bool = False  # it weighs the sum, which only fedkeys under secure aggregation has to do

    @property
    def num_sentences(self) -> int:
        """Sentences of a client."""
        return self.num_batches * BATCH

    def prepare(self, folder: Path, num_rounds: int) -> None:
        """Writes the text, the settings of fedkeys, and the work."""
        Vocabulary(SPECIAL_WORDS + tuple(self._words())).write(folder / "words.txt")
        (folder / "people.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in self._messages()))
        config = read_config(preset="gboard", overrides=self._settings(folder, num_rounds))
        write_config(config, folder / CONFIG_FILE)
        _work_of(config, num_rounds).write(folder / WORK_FILE)

    def _words(self) -> Iterator[str]:
        for number in range(self.size.vocabulary_size - NUM_SPECIAL):
            first, second, third, fourth = (_LETTERS[number >> shift & 15] for shift in (12, 8, 4, 0))
            yield f"{first}{second}a{third}{fourth}"

    def _messages(self) -> Iterator[dict[str, str]]:
        """Yields a message for each sentence: of those who train, and of one person each for dev and test."""
        words = list(self._words())
        for person in range(self.num_clients + 2):
            own = client_batches(person, self.num_batches, self.real_share, self.size.vocabulary_size)
            for tokens, mask in zip(
                own.tokens.reshape(-1, own.tokens.shape[-1]), own.mask.reshape(-1, own.mask.shape[-1])
            ):
                num_words = int(mask.sum()) - 1  # the end of a sentence is a position, too
                text = " ".join(words[token - NUM_SPECIAL] for token in tokens[:num_words])
                yield {"client_id": f"person-{person:04d}", "text": text}

    def _settings(self, folder: Path, num_rounds: int) -> dict[str, Setting]:
        one_person = 1.5 / (self.num_clients + 2)  # rounded down
        return {
            "data.source": str(folder / "people.jsonl"),
            "data.vocabulary": str(folder / "words.txt"),
            "data.vocabulary_size": self.size.vocabulary_size,
            "data.dev_share": one_person,
            "data.test_share": one_person,
            "model.vocabulary_size": self.size.vocabulary_size,
            "model.embedding_size": self.size.embedding_size,
            "model.num_cells": self.size.num_cells,
            "model.start_from_word_counts": False,
            "client.learning_rate": CLIENT_LEARNING_RATE,
            "client.clip_norm": 0.0,
            "client.batch_size": BATCH,
            "client.max_sentences": self.num_sentences,
            "client.weighting": "examples",
            "aggregation.clip_norm": 10.0,  # clips nobody, and keeps the steps of the grid small
            "server.algorithm": "fedavgm",
            "server.learning_rate": SERVER_LEARNING_RATE,
            "server.momentum": SERVER_MOMENTUM,
            "server.schedule": "constant",
            "server.average_decay": 0.0,
            "rounds.count": num_rounds,
            "rounds.cohort_size": self.num_clients,
            "rounds.checkpoint_every": num_rounds,
            "evaluation.every": num_rounds,
        }


def _work_of(config: RunConfig, num_rounds: int) -> Work:
    """Returns the work of the rounds of a run with these settings."""
    data = load_client_data(config).data
    plan = everybody(config, tuple(data.train))

    def round_of(round_num: int) -> tuple[ClientWork, ...]:
        members = plan(round_num).cohort.members
        draws = (simulation_rng(config.seed, Purpose.BATCHES, round_num, member) for member in members)
        return tuple(ClientWork(*draw_batches(config, data.train[m], rng)) for m, rng in zip(members, draws))

    start = first_weights(config, model_size(config.model, data.vocabulary.size), None)
    return Work(start, tuple(round_of(number + 1) for number in range(num_rounds)))


TASKS = (
    Task("dense, 10 x 4", 10, 4, 1.0),
    Task("ragged, 10 x 4", 10, 4, 0.4),
    Task("dense, 10 x 16", 10, 16, 1.0),
    Task("ragged, 10 x 16", 10, 16, 0.4),
    Task("small model, 100 x 4", 100, 4, 0.4, SMALL, of_secure_sum=True),
)

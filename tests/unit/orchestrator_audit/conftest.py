"""A small run, made here without TFF, that can be attacked and audited."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from models.model import load_model
from orchestrator.rounds.build import model_size
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.settings.files import read_config

NUM_WORDS = 400


def _begin_run(folder_path, text_path, num_people, **overrides):
    """A run's folder whose only checkpoint is the first weights; everybody types words of one vocabulary."""
    rng = random.Random(1)
    lines = [
        {
            "client_id": f"p{person:02}",
            "text": " ".join(f"word{rng.randrange(NUM_WORDS)}" for _ in range(4)),
            "timestamp": i,
        }
        for person in range(num_people)
        for i in range(12)
    ]
    text_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = read_config(
        overrides={
            "data.source": str(text_path),
            "data.vocabulary_size": NUM_WORDS + 4,
            "data.min_people": 1,
            "model.vocabulary_size": NUM_WORDS + 4,
            "model.embedding_size": 12,
            "model.num_cells": 16,
            "rounds.cohort_size": 5,
            "rounds.count": 2,
            **overrides,
        }
    )
    corpus, data = load_client_data(config)
    size = model_size(config.model, data.vocabulary.size)
    folder = RunFolder(folder_path)
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, size.num_weights))
    folder.save_checkpoint(ServerState(0, load_model(size).initial_weights(seed=0), {"step": np.int32(0)}), keep=2)
    return folder, data


@pytest.fixture(scope="session")
def begin_run():
    """(folder, text file, number of people, settings) -> (the run's folder, its data)."""
    return _begin_run

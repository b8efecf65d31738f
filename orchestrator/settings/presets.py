"""Named sets of settings."""

from __future__ import annotations

from orchestrator.settings.types import Setting

# What each preset changes. `small` is what the defaults are.
PRESETS: dict[str, dict[str, Setting]] = {
    "smoke": {
        "client.max_sentences": 100,
        "rounds.count": 250,
        "evaluation.every": 50,
    },
    "small": {},
    "quality": {
        "model.vocabulary_size": 10_000,
        "model.embedding_size": 96,
        "model.num_cells": 670,
        "client.dropout": 0.25,
        "server.learning_rate": 0.008,
        "server.average_decay": 0.98,
        "rounds.count": 2400,
        "rounds.checkpoint_every": 100,
        "evaluation.every": 150,
    },
    # Differential privacy by a budget, on the built-in text: few people, so a small model and large cohorts.
    "private": {
        "data.vocabulary": "public",
        "model.vocabulary_size": 2000,
        "model.embedding_size": 32,
        "model.num_cells": 64,
        "model.start_from_word_counts": False,
        "client.epochs": 3,  # local work costs no epsilon
        "client.max_sentences": 100,
        "client.weighting": "equal",
        "server.algorithm": "fedavg",
        "server.learning_rate": 2.0,
        "server.schedule": "constant",
        "rounds.count": 120,
        "rounds.cohort_size": 70,
        "rounds.checkpoint_every": 20,
        "evaluation.every": 20,
        "privacy.mechanism": "matrix",
        "privacy.clip_norm": 2.0,
        "privacy.epsilon": 10.0,
    },
    "gboard": {
        "model.vocabulary_size": 10_000,
        "model.embedding_size": 96,
        "model.num_cells": 670,
        "server.learning_rate": 0.008,
    },
}

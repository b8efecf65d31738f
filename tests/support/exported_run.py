"""A run as training leaves it, and the commands that are run on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from orchestrator.cli.commands import cli
from orchestrator.rounds.build import model_size
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.settings.files import read_config

SETTINGS = {
    "data.vocabulary_size": 120,
    "model.vocabulary_size": 30,
    "model.embedding_size": 8,
    "model.num_cells": 12,
    "rounds.cohort_size": 10,
    "client.learning_rate": 0.5,
    "runtime.workers": "1",
}


def fedkeys(*args, ok: bool = True):
    """The result of a command; its standard output as JSON where it printed any."""
    done = CliRunner().invoke(cli, [str(a) for a in args])
    if ok and done.exception is not None:
        raise done.exception
    return json.loads(done.stdout) if ok and "--json" in args else done


def build_run(path: Path, text: Path, weights=None, checkpoint=True, **settings) -> RunFolder:
    """A run folder as training leaves it, with weights that were drawn."""
    config = read_config(preset="smoke", overrides={**SETTINGS, "data.source": str(text), **settings})
    corpus, data = load_client_data(config)
    size = model_size(config.model, data.vocabulary.size)
    folder = RunFolder(path)
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, size.num_weights))
    if checkpoint:
        rng = np.random.default_rng(0)
        drawn = tuple((0.3 * rng.standard_normal(shape)).astype(np.float32) for shape in size.shapes)
        folder.save_checkpoint(ServerState(7, weights or drawn, {"none": np.zeros(1)}), 3)
    return folder

"""A training with parts of one's own: an aggregator, an optimiser, workers that stay open."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.aggregator import PlainSum
from orchestrator.rounds.build import learning_rates
from orchestrator.rounds.round import weights_digest
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {
    "data.vocabulary_size": 80, "model.vocabulary_size": 30, "model.embedding_size": 8,
    "model.num_cells": 12, "rounds.count": 2, "rounds.cohort_size": 8, "rounds.checkpoint_every": 1,
    "rounds.keep_checkpoints": 3, "aggregation.aggregator": "secagg", "server.algorithm": "fedadam",
    "runtime.workers": "1",
}  # fmt: skip


class Quiet:
    """Shows nothing, and remembers which rounds were done."""

    def __init__(self):
        self.done = []

    def stage(self, text):
        pass

    def begin(self, first_round, num_rounds):
        pass

    def round_done(self, report, dev):
        self.done.append(report.round_num)


class Counting:
    """A plain sum that counts how often it is asked."""

    name = "counting"

    def __init__(self):
        self.times = 0

    def sum(self, vectors, cohort, drops):
        self.times += 1
        return PlainSum().sum(vectors, cohort, drops)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    rows = ({"client_id": f"p{n:02}", "text": f"see you at {k % 7} friend{n}"} for n in range(30) for k in range(14))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_client_data(read_config(preset="smoke", overrides={**SETTINGS, "data.source": str(path)}))


def test_one_s_own_parts_take_the_place_of_those_of_the_settings(text, tmp_path):
    from orchestrator.run.training import Parts, train
    from tff_pipelines.runtime import Runtime
    from tff_pipelines.server_update import build_server_optimizer

    config, own, states = read_config(preset="smoke", overrides=SETTINGS), Counting(), {}
    averaging = build_server_optimizer("fedavg")
    with Runtime("1") as runtime:
        for name, parts in {
            "settings": Parts(runtime=runtime),
            "aggregator": Parts(runtime=runtime, aggregator=own),
            "optimizer": Parts(runtime=runtime, server_optimizer=averaging),
        }.items():
            observer = Quiet()
            states[name] = train(RunFolder(tmp_path / name), config, text, observer, parts=parts).state
            assert observer.done == [1, 2]
        assert len(runtime.workers) == 1  # it stayed open
    assert own.times == 2
    # Every aggregator gives the same total, so one's own gives the same weights.
    assert weights_digest(states["aggregator"].model) == weights_digest(states["settings"].model)
    # FedAvg's step by hand: the learning rate times the mean update, whose norm the line tells.
    before, after = (RunFolder(tmp_path / "optimizer").load_checkpoint(number).weights for number in (0, 1))
    moved = np.sqrt(sum(float(np.square(b - a).sum()) for b, a in zip(before, after)))
    line = read_run(RunFolder(tmp_path / "optimizer")).rounds[0]
    assert moved == pytest.approx(learning_rates(config, 1)[1] * line.metric("update_norm"), rel=1e-4)

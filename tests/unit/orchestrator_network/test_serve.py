"""What `fedkeys serve` begins, goes on with and refuses."""

from __future__ import annotations

import dataclasses
import threading

import portpicker
import pytest
from loopback import DEADLINES, NAMES, WORDS, Peer, Served, config_of, first_state, plain_step, wait_until

from models.corpus import Corpus
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.network.serve import serve
from orchestrator.rounds.build import (
    model_size,
)
from orchestrator.run.folder import RunFolder, build_identity

pytestmark = pytest.mark.timeout(60)


def test_a_run_goes_on_where_it_stood_and_only_as_it_was_begun(keys, tmp_path):
    config, folder = config_of(num_rounds=2), RunFolder(tmp_path / "run")
    num_weights = model_size(config.model, WORDS.size).num_weights
    folder.create(config, WORDS, build_identity(config, Corpus("texts", {}, "1" * 64), WORDS, num_weights))
    folder.save_checkpoint(dataclasses.replace(first_state(config), round_num=1), keep=2)
    address = f"localhost:{portpicker.pick_unused_port()}"
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="was begun with another config"):
        serve(folder, config_of(num_rounds=3), keys, address, DEADLINES, print)
    folder = RunFolder(tmp_path / "run")

    def run():
        done.append(serve(folder, config, keys, address, DEADLINES, notes.append, None, lambda *_: (None, plain_step)))

    done, notes = [], []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: notes)
    peers = [Peer(keys, Served(folder, address), name) for name in NAMES]
    assert [peer.join().goodbye for peer in peers] == ["all 2 rounds are done"] * len(NAMES)
    thread.join(20)
    assert done[0].round_num == 2
    assert [report.round_num for report in folder.rounds()] == [2]
    assert notes[0] == f"listening on {address} for 6 enrolled clients; loading TensorFlow"
    with pytest.raises(RunFolderError, match="in use by another process"):
        serve(RunFolder(tmp_path / "run"), config, keys, address, DEADLINES, print)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"aggregation.aggregator": "plain"}, "^aggregation.aggregator = 'plain': over a network"),
        ({"aggregation.aggregator": "encrypted"}, "start `fedkeys decryptor`"),
        ({"rounds.cohort_size": 20}, "has 6 clients enrolled"),
    ],
)
def test_configurations_that_can_t_be_served(keys, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        serve(RunFolder(tmp_path / "run"), config_of(**overrides), keys, "localhost:0", DEADLINES, print)
    assert not (tmp_path / "run").exists()

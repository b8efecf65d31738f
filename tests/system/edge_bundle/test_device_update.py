"""A device trains from a bundle, and a round takes its update."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from exported_run import fedkeys

from edge.clients.files import BATCHES_MAGIC, read_update
from edge.errors import EdgeError
from models.weights import ModelSize, weights_to_bytes
from orchestrator.rounds.types import ServerState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("client", ["python", "c"])
def test_a_device_makes_its_update(exported, run, text_of_one, client, tmp_path):
    from edge.clients.c_client import why_not

    if client == "c" and why_not():
        pytest.skip(why_not())
    out, kept = tmp_path / "update", tmp_path / "batches"
    args = ["device-update", exported[0], "--data", text_of_one, "--out", out, "--client", client, "--json"]
    printed = fedkeys(*args, "--seed", 5, "--save-batches", kept)
    assert kept.read_bytes().startswith(BATCHES_MAGIC)
    assert printed["num_examples"] == 40
    weights = run.load_checkpoint().model
    update = read_update(out, weights)
    assert (update["num_examples"], update["num_tokens"]) == (printed["num_examples"], printed["num_tokens"])
    # The same from the kept batches, and from weights that came beside the bundle.
    (tmp_path / "weights").write_bytes(weights_to_bytes(weights))
    again = fedkeys(*args[:3], kept, *args[4:], "--weights", tmp_path / "weights")
    assert again == printed
    for mine, theirs in zip(read_update(out, weights)["delta"], update["delta"]):
        np.testing.assert_array_equal(mine, theirs)


def test_python_and_c_make_the_same_update(exported, run, text_of_one, tmp_path):
    from edge.clients.c_client import why_not

    if why_not():
        pytest.skip(why_not())
    for client in ("python", "c"):
        fedkeys("device-update", exported[0], "--data", text_of_one, "--out", tmp_path / client, "--client", client,
                "--seed", 5)  # fmt: skip
    mine, theirs = (read_update(tmp_path / name, run.load_checkpoint().model) for name in ("python", "c"))
    for a, b in zip(mine["delta"], theirs["delta"]):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_device_reads_a_pipe(exported, run, text_of_one, tmp_path):
    kept, of_file, weights = tmp_path / "kept", tmp_path / "of_file", run.load_checkpoint().model
    fedkeys("device-update", exported[0], "--data", text_of_one, "--out", of_file, "--seed", 5, "--save-batches", kept)
    for source in (text_of_one, kept):  # text, and token batches
        pipe, out = tmp_path / f"pipe of {source.name}", tmp_path / f"update of {source.name}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(source.read_bytes(),))
        writer.start()
        fedkeys("device-update", exported[0], "--data", pipe, "--out", out, "--seed", 5)
        writer.join()
        for mine, theirs in zip(read_update(out, weights)["delta"], read_update(of_file, weights)["delta"]):
            np.testing.assert_array_equal(mine, theirs)


def test_bad_input_of_a_device_is_refused(exported, text_of_one, tmp_path):
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "short").write_bytes(bytes(10))
    (tmp_path / "cut").write_bytes(BATCHES_MAGIC + bytes(9))
    cases = {
        "holds no words": ["--data", tmp_path / "empty"],
        "not UTF-8": ["--data", tmp_path / "binary"],
        "must begin with FKBATCH1": ["--data", tmp_path / "cut"],
        "No such file": ["--data", tmp_path / "nothing"],
        "has 10 bytes": ["--data", text_of_one, "--weights", tmp_path / "short"],
        "--learning-rate must be above 0": ["--data", text_of_one, "--learning-rate", "nan"],
        "not finite": ["--data", text_of_one, "--learning-rate", "1e30"],
    }
    for message, args in cases.items():
        done = fedkeys("device-update", exported[0], *args, "--out", tmp_path / "update", ok=False)
        assert isinstance(done.exception, EdgeError), (message, done.exception)
        assert message in str(done.exception)
        assert not (tmp_path / "update").exists()


def test_a_round_takes_updates_that_devices_wrote(exported, run, text_of_one, tmp_path):
    from models.corpus import ClientId
    from orchestrator.aggregator import Cohort, PlainSum
    from orchestrator.encoding import Encoder
    from orchestrator.rounds.round import run_round
    from orchestrator.rounds.types import RoundFunctions
    from orchestrator.run.loop import WallClock

    weights = run.load_checkpoint().model
    paths = []
    for device in range(3):
        paths.append(tmp_path / f"update{device}")
        fedkeys("device-update", exported[0], "--data", text_of_one, "--out", paths[-1], "--seed", device)

    def train_clients(weights, learning_rate, seed, batches):
        # In a round over a network the batches stay on the devices; here they only count the members at work.
        return (read_update(path, weights) for _, path in zip(batches, paths))

    from models.batches import build_batches

    one = build_batches([np.array([5])], batch_size=1, time=4)
    functions = RoundFunctions(
        batches_of=lambda person, rng: one,
        train_clients=train_clients,
        weight_of=lambda update: update.num_tokens,
        encoder=Encoder(clip_norm=30.0, num_clients=3, max_weight=5000, shapes=ModelSize.of(weights).shapes),
        aggregator=PlainSum(),
        update_server=lambda state, before, mean, rate: (state, tuple(b - rate * m for b, m in zip(before, mean))),
    )
    cohort = Cohort(8, tuple(ClientId(f"d{i}") for i in range(3)))
    state, report = run_round(
        ServerState(7, weights, ()), cohort, functions,
        seed=0, client_learning_rate=0.5, server_learning_rate=1.0, stopwatch=WallClock(),
    )  # fmt: skip
    assert report.survivors == cohort.members
    updates = [read_update(path, weights) for path in paths]
    total = sum(update["num_tokens"] for update in updates)
    assert report.metrics["num_tokens"] == total
    for place, (after, before) in enumerate(zip(state.weights, weights)):
        mean = sum(update["delta"][place] * (update["num_tokens"] / total) for update in updates)
        np.testing.assert_allclose(before - after, mean, atol=1e-5)

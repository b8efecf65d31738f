"""libfedkeys trains in slices and predicts, under sanitizers; the result is that of one go, to the bit."""

import json
import subprocess

import c_model
import numpy as np
import pytest
from c_client_bundle import COMPILER, SIZE, TIME, ragged_batches
from c_library import READING, built, in_c_model, library

from edge.clients import c_client
from edge.clients.files import batches_to_bytes, read_update
from edge.clients.litert import build_interpreter
from edge.export.tflite import INFER_FILE
from models.vocabulary import BOS

pytestmark = pytest.mark.slow  # converting the model takes seconds

STEPS = 4
LONG = [5 + i % 50 for i in range(300)]
# What somebody types: forward, a correction, another sentence, and one far longer than any that was trained on.
PREFIXES = [[], [5], [5, 17], [5, 17, 4], [5, 9], [], [7], LONG[:255], LONG[:256], LONG[:257], LONG]


@pytest.fixture(scope="module")
def found(client, bundle, tmp_path_factory):
    """What c_model.main returns, and the folder of its batches."""
    library(*READING)
    folder, rng = tmp_path_factory.mktemp("c_library"), np.random.default_rng(5)
    for name in ("batches", "others"):
        content = batches_to_bytes(ragged_batches(SIZE, TIME, STEPS, rng), SIZE.vocabulary_size)
        (folder / name).write_bytes(content)
    asan = subprocess.run([*COMPILER, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    found = in_c_model(
        "main",
        bundle,
        c_client.litert_library(),
        folder / "batches",
        folder / "others",
        json.dumps(PREFIXES),
        LD_PRELOAD=asan.stdout.strip(),
        ASAN_OPTIONS="detect_leaks=0",  # Python's own
        FEDKEYS_LIBRARY=str(built("SANITIZE=address,undefined", kind="-sanitized")),
    )
    return found, folder


def test_slices_come_to_what_one_go_does(found, client, bundle, weights, tmp_path):
    whole, slices = found[0]["whole"], found[0]["slices"]
    assert slices.pop("steps") == list(range(1, STEPS + 1))
    assert slices == whole
    assert (whole["step"], whole["num_steps"], whole["is_done"], len(whole["losses"])) == (STEPS, STEPS, True, STEPS)
    words = ["train", bundle, found[1] / "batches", tmp_path / "update", "--learning-rate", 0.5]
    c_client.run_c_client(words, client)
    update = read_update(tmp_path / "update", weights)
    assert b"".join(delta.tobytes() for delta in update["delta"]).hex() == whole["update"]
    assert (update["num_examples"], update["num_tokens"]) == (whole["num_examples"], whole["num_tokens"])
    assert update["loss_sum"] == whole["loss_sum"]


def test_a_training_stops_between_steps_and_goes_on(found):
    cancelled = found[0]["cancelled"]
    assert cancelled.pop("seen") == [[0, True, False], [1, False, False], [1, True, False], [STEPS, False, True]]
    assert cancelled == found[0]["whole"]


def test_what_was_not_saved_for_this_training_is_refused(found):
    assert found[0]["refused"] == {
        "empty": "DAMAGED",
        "cut": "DAMAGED",
        "another kind": "DAMAGED",
        "negative step": "DAMAGED",
        "other batches": "UNSUPPORTED",
        "other weights": "UNSUPPORTED",
    }


def test_a_predictor_that_remembers_says_what_a_new_one_does(found):
    assert all(kept == anew for kept, anew in found[0]["predictions"])
    assert all(kept == anew for kept, anew in found[0]["of the model that trains"])


@pytest.mark.parametrize("index", [1, 3, 4, 7])
def test_predictions_are_those_of_litert_in_python(found, model, index):
    infer = build_interpreter(model[1][INFER_FILE]).get_signature_runner("infer")
    state = {"hidden": np.zeros((1, SIZE.embedding_size), "f4"), "cell": np.zeros((1, SIZE.num_cells), "f4")}
    for token in [BOS, *PREFIXES[index]]:
        got = infer(token=np.array([token], np.int32), **state)
        state = {"hidden": got["next_hidden"], "cell": got["next_cell"]}
    kept = found[0]["predictions"][index][0]
    assert [one for one, _ in kept] == got["ids"][0].tolist()
    np.testing.assert_allclose([share for _, share in kept], got["probabilities"][0], rtol=1e-5)


def test_words_after_typed_words(found):
    assert found[0]["words"] == [c_model.WORDS[one] for one, _ in found[0]["predictions"][2][0]]

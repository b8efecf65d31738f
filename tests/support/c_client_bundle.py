"""Bundles for the C client, and how it refuses."""

import os
import shlex
import subprocess

import numpy as np
from small_manifest import small_manifest

from edge.bundle.folder import write_bundle
from edge.bundle.golden import golden_files
from edge.clients import c_client
from edge.export.shapes import train_shapes
from edge.export.tflite import TRAIN_FILE, _build_train_file, build_files
from models.batches import build_batches
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize

COMPILER = shlex.split(os.environ.get("CC") or "cc")
SIZE, TIME, RATE = ModelSize(vocabulary_size=60, embedding_size=8, num_cells=12), 6, 0.1


def write(folder, files, size=SIZE, time=TIME):
    """Writes a bundle of these files, as an export does; its manifest fits them."""
    manifest = small_manifest(files, size, time, RATE)
    write_bundle(folder, files, manifest)
    return folder


def build(size, time):
    from models.model import load_model

    weights = load_model(size).initial_weights(seed=0)
    return weights, {
        **build_files(size, weights, time, 0.0, batch_size=4),
        **golden_files(size, weights, time, 0.0, RATE, shapes=train_shapes(size, time, 4)),
    }


def build_trainable(size, weights, time):
    """The files that training takes: a third of what an export makes, in a third of the time."""
    from models.model import load_model

    trained = _build_train_file(load_model(size), weights, time, 0.0, 4)
    return {TRAIN_FILE: trained, **golden_files(size, weights, time, 0.0, RATE, shapes=train_shapes(size, time, 4))}


def ragged_batches(size, time, steps, rng):
    sentences = [rng.integers(NUM_SPECIAL, size.vocabulary_size, rng.integers(1, time + 2)) for _ in range(4 * steps)]
    return build_batches(sentences, batch_size=4, time=time)


def refusal(client, *words):
    """The one line with which the client refuses."""
    environment = {**os.environ, "FEDKEYS_LITERT": str(c_client.litert_library())}
    done = subprocess.run([client, *map(str, words)], capture_output=True, text=True, env=environment)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert lines[0].startswith("fedkeys_client: ")
    return lines[0]


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def int32(value):
    return np.int32(value).tobytes()


def float32(value):
    return np.float32(value).tobytes()

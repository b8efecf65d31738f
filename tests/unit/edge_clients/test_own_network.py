"""A network of somebody's own trains in LiteRT as in TensorFlow, in batches of one size."""

from __future__ import annotations

import numpy as np
from own_networks import MAX_WORDS, SIZE, bigram, registered

from edge.clients.litert import build_clients
from models.batches import build_batches
from models.local_training import build_trainer
from models.model import load_model
from models.weights import ModelSize, largest_difference

ROWS, RATE, CLIP = 3, 0.5, 0.3


def test_phones_train_it_as_tensorflow_does():
    size = ModelSize(*SIZE, registered(bigram))
    weights, rng = load_model(size).initial_weights(0), np.random.default_rng(0)
    sentences = [rng.integers(4, SIZE[0], rng.integers(1, MAX_WORDS + 2)) for _ in range(8)]  # one row is filling
    batches = build_batches(sentences, batch_size=ROWS, time=MAX_WORDS)
    expected = build_trainer(size, MAX_WORDS, CLIP)(weights, RATE, 0, batches)
    with build_clients(size, MAX_WORDS, CLIP, 1, ROWS) as phones:
        (found,) = phones.train(weights, RATE, 0, [batches])
    assert largest_difference(expected["delta"], [np.zeros_like(w) for w in weights]) > 0.05
    assert largest_difference(found["delta"], expected["delta"]) < 1e-6
    assert (found["num_tokens"], found["num_examples"]) == (expected["num_tokens"], 8)

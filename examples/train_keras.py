"""Trains a Keras model by federated rounds on handwritten digits, of which each person writes three kinds."""

import sys
import tempfile

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from orchestrator import api

NUM_PEOPLE = 10
layers = tf.keras.layers
images, kinds = load_digits(return_X_y=True)
images = images / 16.0
writers = (kinds - np.arange(len(kinds)) % 3) % NUM_PEOPLE  # made up: the data set does not say who wrote what


def everybodys(rows):
    own = {number: rows[writers[rows] == number] for number in range(NUM_PEOPLE)}
    return {f"person {number}": (images[digits], kinds[digits]) for number, digits in own.items()}


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [layers.Input((64,)), layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    order = np.random.default_rng(0).permutation(len(kinds))
    done = api.train_keras(
        model, everybodys(order[:1400]), rounds=20, clients_per_round=6, sum="secagg", test=everybodys(order[1400:]),
        settings={"client.epochs": 2}, folder=folder,
    )  # fmt: skip
    print(f"round {len(done.rounds)}: {done.scores.pooled:.1%} of the digits that it never saw")
    print(f"spread over people: {done.scores.stddev:.1%}; worst: {done.scores.worst[0]}, {done.scores.worst[1]:.1%}")

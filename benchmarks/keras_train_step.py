"""The train step of exported Keras models in LiteRT beside plain TensorFlow, on one thread; they take turns.

python benchmarks/keras_train_step.py [--json] [FAMILY ...]

Plain TensorFlow is Keras's own layers and TensorFlow's own gradient, in a tf.function, on tensors that are there; of
adapters it differentiates the whole weight, and follows by the chain rule.
Both sides take the same step, which is checked first. "of TensorFlow" above 1 means that LiteRT is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

from edge.clients.keras_model import KerasModel
from edge.export.keras_network import build_network
from edge.export.keras_reference import build_step, made_up_batches
from edge.export.keras_tflite import build_keras_file

layers = tf.keras.layers
BATCH, RUNS, SLICE, RATE = 16, 60, 10, 0.01


def mlp() -> tf.keras.Model:
    """784-256-128-10."""
    image = layers.Input((784,))
    x = layers.Dense(128, "relu")(layers.Dense(256, "relu")(image))
    return tf.keras.Model(image, layers.Dense(10, "softmax")(x))


def cnn() -> tf.keras.Model:
    """Two convolutions and pooling on 28 x 28."""
    image = layers.Input((28, 28, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(16, 3, activation="relu")(image))
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", activation="relu")(x))
    x = layers.Dense(64, "relu")(layers.Flatten()(x))
    return tf.keras.Model(image, layers.Dense(10, "softmax")(x))


def gru() -> tf.keras.Model:
    """A classifier of 20 words."""
    ids = layers.Input((20,))
    return tf.keras.Model(ids, layers.Dense(10, "softmax")(layers.GRU(96)(layers.Embedding(2000, 64)(ids))))


def lstm() -> tf.keras.Model:
    """Two layers over 20 steps of a series."""
    series = layers.Input((20, 6))
    x = layers.LSTM(48)(layers.LSTM(96, return_sequences=True)(series))
    return tf.keras.Model(series, layers.Dense(10, "softmax")(x))


def transformer() -> tf.keras.Model:
    """Two causal blocks of width 64 over 16 words."""
    ids, places = layers.Input((16,), name="ids"), layers.Input((16,), name="places")
    x = layers.Add()([layers.Embedding(1000, 64)(ids), layers.Embedding(16, 64)(places)])
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x, use_causal_mask=True)]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(64)(layers.Dense(128, "gelu")(x))]))
    return tf.keras.Model([ids, places], layers.Dense(1000, "softmax")(x))


def depthwise() -> tf.keras.Model:
    """Like MobileNet, on 32 x 32."""

    def normal(x: tf.Tensor) -> tf.Tensor:
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    image = layers.Input((32, 32, 3))
    x = normal(layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(image))
    for filters, stride in ((32, 1), (64, 2), (64, 1)):
        x = normal(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x))
        x = normal(layers.Conv2D(filters, 1, use_bias=False)(x))
    return tf.keras.Model(image, layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(x)))


MODELS: dict[str, Callable[[], tf.keras.Model]] = {
    build.__name__: build for build in (mlp, cnn, gru, lstm, transformer, depthwise)
}


def measure(name: str, lora_rank: int) -> dict[str, object]:
    """Returns the figures of one model."""
    network = build_network(MODELS[name](), "sparse_categorical_crossentropy", (), lora_rank, BATCH)
    content = build_keras_file(network, BATCH)
    litert = KerasModel(content, [weight.tensor for weight in network.trainable])
    batch = made_up_batches(network, BATCH, 1, seed=3)[0]
    tensors = {key: tf.constant(value) for key, value in batch.items()}
    trained = [tf.Variable(weight.start) for weight in network.trainable]
    step = tf.function(build_step(network, trained, np.float32(RATE)))
    losses = litert.train_step(batch, RATE), float(step(tensors))
    assert abs(losses[0] - losses[1]) < 1e-4, f"{name}: the two sides do other work: {losses}"
    sides: dict[str, Callable[[], object]] = {
        "litert": lambda: litert.train_step(batch, RATE),
        "tensorflow": lambda: step(tensors).numpy(),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(RUNS // SLICE):
        for side, run in sides.items():
            run()
            for _ in range(SLICE):
                started = time.perf_counter()
                run()
                times[side].append(1e3 * (time.perf_counter() - started))
    medians = {side: float(np.median(own)) for side, own in times.items()}
    return {
        "model": name + (f", LoRA {lora_rank}" if lora_rank else ""),
        "weights": sum(weight.start.size for weight in network.trainable),
        "litert_ms": medians["litert"],
        "tensorflow_ms": medians["tensorflow"],
        "ratio": medians["litert"] / medians["tensorflow"],
        "bytes": len(content),
    }


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = []
    for name in arguments.families or MODELS:
        for lora_rank in (0, 4) if name == "gru" else (0,):
            rows.append(measure(name, lora_rank))
            if not arguments.json:
                row = rows[-1]
                print(
                    f"{row['model']:14} {row['weights']:9,} weights  LiteRT {row['litert_ms']:7.2f} ms  "
                    f"TensorFlow {row['tensorflow_ms']:7.2f} ms  {row['ratio']:5.2f} of TensorFlow",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()

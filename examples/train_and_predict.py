"""Trains a tiny model on made-up texts, and asks it for the next word."""

import sys
import tempfile

from orchestrator import api

THINGS = ["dog", "cat", "house", "class"]
texts = {
    f"person {n}": [f"i like my {THINGS[(n + k) % 4]}. do you like my {THINGS[k % 4]}?" for k in range(12)]
    for n in range(30)
}
tiny = {
    "rounds.count": 30, "rounds.cohort_size": 8, "evaluation.every": 30,
    "model.vocabulary_size": 30, "model.embedding_size": 8, "model.num_cells": 16,
}  # fmt: skip

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    run = api.train(folder, texts, preset="smoke", settings=tiny)
    for guess in api.predict(run, "do you like"):
        print(f"{guess.probability:6.1%}  {guess.word}")
    print(f"first guess right: {api.evaluate(run).model.top1:.1%} of the words of people it never saw")

"""The interpreter of exported files: it says nothing to a user."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edge.export.tflite import build_infer_file
from models.weights import ModelSize

pytest.importorskip("ai_edge_litert")  # no wheel for Python 3.9

SIZE = ModelSize(vocabulary_size=9, embedding_size=2, num_cells=3)
PREDICT = """
import os, sys
import numpy as np
from edge.clients.litert import build_interpreter

os.write(2, b"before;")
for _ in range(2):
    infer = build_interpreter(open(sys.argv[1], "rb").read()).get_signature_runner("infer")
    ids = infer(token=np.array([4], np.int32), hidden=np.zeros((1, 2), np.float32), cell=np.zeros((1, 3), np.float32))
os.write(2, b"after")
print(ids["ids"].shape)
"""


def test_litert_greets_nobody_and_standard_error_stays(tmp_path):
    rng = np.random.default_rng(0)
    weights = tuple(rng.standard_normal(shape).astype(np.float32) for shape in SIZE.shapes)
    (tmp_path / "infer.tflite").write_bytes(build_infer_file(SIZE, weights))
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "infer.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(1, 3)\n", "before;after")

"""Training in a build of the C client, as a function: weights and batches go in and an update comes out, by files.

The files hold what was typed and what was learnt of it. They lie in a temporary folder of this user's alone, until the
training ends; TMPDIR says where, /dev/shm for instance to keep them off the disk.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.clients.files import batches_to_bytes, read_update
from models.batches import Batches
from models.client_result import ClientResult
from models.weights import ModelSize, Weights, weights_to_bytes

RunClient = Callable[[Sequence[object]], "subprocess.CompletedProcess[str]"]  # run_c_client, run_arm64_client


def train_in_c(
    run: RunClient, bundle: Path, size: ModelSize, weights: Weights, batches: Batches, learning_rate: float
) -> tuple[ClientResult, list[float]]:
    """Returns what a training from these weights gives, and the loss of each step in nats per token.

    Args:
      run: what runs the client.
      bundle: the folder with manifest.json and train.tflite.
      size: of the model.
      weights: to start from.
      batches: at least one.
      learning_rate: above 0.

    Raises:
      Diverged: a weight went non-finite.
      ClientError: the client ended with another error, whose line it is.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "weights").write_bytes(weights_to_bytes(weights))
        (folder / "batches").write_bytes(batches_to_bytes(batches, size.vocabulary_size))
        options = ("--learning-rate", learning_rate, "--weights", folder / "weights")
        printed = run(["train", bundle, folder / "batches", folder / "update", *options]).stdout
        losses = [float(line.split()[1]) for line in printed.splitlines() if line.startswith("loss ")]
        return read_update(folder / "update", weights), losses

"""Trains a network client through the C library, with an exported bundle: where TensorFlow is not, as on ARM64."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable

from edge.bundle.folder import open_bundle
from edge.bundle.manifest import Manifest
from edge.clients.c_client import run_c_client
from edge.clients.c_training import RunClient, train_in_c
from edge.errors import Diverged
from models.batches import Batches
from models.client_result import ClientResult
from models.weights import ModelSize, Weights
from orchestrator.encoding import zeros_like
from orchestrator.errors import ConfigError
from orchestrator.settings.run_config import RunConfig

if TYPE_CHECKING:
    from models.local_training import Trainer


def bundle_trainer(bundle: Path, run: RunClient = run_c_client) -> Callable[[RunConfig, ModelSize], Trainer]:
    """Returns what builds a run's trainer of a bundle, after the device has passed the bundle's self-test.

    Of the bundle only the training step counts: words and weights are the server's.

    Args:
      bundle: the folder, which must not change while it is trained with.
      run: what runs the C client.

    Raises:
      BundleError: the bundle can't be used.
      ClientError: there is no C client here, or it fails the self-test: this machine must not train.
    """
    manifest, _ = open_bundle(bundle)
    run(["self-test", bundle])

    def build(config: RunConfig, size: ModelSize) -> Trainer:
        _require_fit(bundle, manifest, config, size)

        def train(weights: Weights, learning_rate: float, seed: int, batches: Batches) -> ClientResult:
            return _trained(run, bundle, size, weights, learning_rate, batches)

        return train

    return build


def _trained(
    run: RunClient, bundle: Path, size: ModelSize, weights: Weights, learning_rate: float, batches: Batches
) -> ClientResult:
    """The client's part of a round. Weights that go non-finite are no error: the server could read one."""
    nothing = ClientResult(
        delta=zeros_like(weights),
        loss_sum=0.0,
        num_tokens=batches.num_tokens,
        num_examples=batches.num_examples,
        is_finite=True,
    )
    if not (learning_rate and len(batches.tokens)):  # the C client asks for a rate above 0, and for a batch
        return nothing
    try:
        result, _ = train_in_c(run, bundle, size, weights, batches, learning_rate)
    except Diverged:
        return {**nothing, "is_finite": False}
    return result


def _require_fit(bundle: Path, manifest: Manifest, config: RunConfig, size: ModelSize) -> None:
    plan, client = manifest.plan, config.client
    for name, own, wanted in (
        ("size of the model", manifest.model.size, size),
        ("data.max_words", plan.max_words, config.data.max_words),
        ("client.clip_norm", plan.clip_norm, client.clip_norm),
        ("client.proximal", 0.0, client.proximal),
        ("client.dropout", 0.0, client.dropout),
    ):
        if own != wanted:
            raise ConfigError(
                f"{bundle} trains with another {name}: name a bundle that fits by --bundle, or train in TensorFlow "
                "without it"
            )

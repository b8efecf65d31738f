"""Whether an exported Keras model trains as TensorFlow does: the same batches through both, and the certificate of it.

ReLU and max pooling have corners: where two numbers are equal but for rounding, two right programs take different
sides, and a weight then differs by a share of the learning rate. So the comparison takes the largest of RATES at which
the two stay within the gate, and the certificate names the rates that failed before. A wrong gradient is far off at any
of them: `moved` says by how much the weights changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import msgspec
import numpy as np

from edge.bundle.parity import GATE, PARITY_FILE, Comparison, compare_weights
from edge.bundle.reading import decode_json
from edge.clients.keras_model import KerasModel
from edge.clients.litert import RUNTIMES, runtime_version
from models.weights import largest_difference

RATES = (0.1, 0.02, 0.004, 0.001)
_LEAST_MOVED = 10.0  # times the gate: below it the comparison says nothing

Trained = tuple[Sequence[np.ndarray], Sequence[float]]  # weights after all steps, losses


class FailedRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A learning rate at which the comparison failed; None in place of what is not finite."""

    learning_rate: float
    max_abs_diff: Optional[float]  # the worst runtime's
    moved: Optional[float]  # see KerasCertificate


class KerasCertificate(Comparison, frozen=True, kw_only=True):
    """parity.json of a Keras model's bundle."""

    moved: float  # largest change of a weight in TensorFlow over all steps
    failed_rates: tuple[FailedRate, ...]  # of RATES, those tried before learning_rate

    @property
    def passed(self) -> bool:
        """True if the weights moved, and every runtime that ran stays within the gate, and one ran."""
        return self.moved >= _LEAST_MOVED * self.gate and super().passed


def read_keras_certificate(content: bytes) -> KerasCertificate:
    """Returns the certificate in parity.json.

    Raises:
      BundleError: it is damaged.
    """
    return decode_json(content, KerasCertificate, PARITY_FILE, "export the model again")


def certify_keras(
    content: bytes,
    names: Sequence[str],
    start: Sequence[np.ndarray],
    weights_sha256: str,
    batches: Sequence[Mapping[str, np.ndarray]],
    train: Callable[[float, bool], Trained],
    reference: str,
) -> KerasCertificate:
    """Returns the certificate of train.tflite.

    Args:
      content: of the file.
      names: of the weights that train, in the signatures.
      start: the weights that training starts from.
      weights_sha256: their digest.
      batches: as many as there are steps.
      train: trains on them in TensorFlow, at a rate, with each batch's rows as they are or in reverse order.
      reference: what TensorFlow is called in the certificate.
    """
    failed: list[FailedRate] = []
    for rate in RATES:
        after, losses = train(rate, False)
        runtimes = {}
        for runtime in RUNTIMES:
            model = KerasModel(content, names, runtime)
            mine_losses = [model.train_step(batch, rate) for batch in batches]
            drift = tuple(mine - theirs for mine, theirs in zip(mine_losses, losses))
            runtimes[runtime] = compare_weights(runtime_version(runtime), names, model.get_weights(), after, drift)
        certificate = KerasCertificate(
            weights_sha256=weights_sha256,
            reference=reference,
            steps=len(batches),
            batch_size=len(batches[0]["mask"]),
            learning_rate=rate,
            gate=GATE,
            moved=largest_difference(after, start),
            reference_self_diff=np.nan,
            runtimes=runtimes,
            failed_rates=tuple(failed),
        )
        if certificate.passed:
            break
        failed.append(FailedRate(rate, _finite(certificate.max_abs_diff), _finite(certificate.moved)))
    reversed_after, _ = train(certificate.learning_rate, True)
    return msgspec.structs.replace(certificate, reference_self_diff=largest_difference(after, reversed_after))


def _finite(value: float) -> Optional[float]:
    return value if np.isfinite(value) else None

"""Whether the exported files train as TFF does: the same batches through both, and the certificate of it.

The TFF side comes in as a Reference: edge does not know tff_pipelines. Each runtime that is installed runs the same
steps from the same weights: LiteRT and TensorFlow's interpreter on train.tflite, LiteRT on train_stateless.tflite, the
C client on this machine's processor and on a phone's (ARM64, under qemu), and LiteRT.js in Node as the page for
browsers has it.

Two right programs differ by float32 rounding, which training then amplifies: at a high learning rate, without bound
(TFF differs from itself when a batch's sentences come in another order). So the comparison takes RATE at most, and the
certificate says by how much TFF differs from itself there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge.bundle.reading import decode_json
from edge.bundle.runtimes import RUNTIMES
from edge.clients.litert import build_interpreter
from edge.export.tflite import INFER_FILE, build_infer_file
from models.batches import Batches
from models.vocabulary import BOS, NUM_SPECIAL
from models.weights import ModelSize, Weights

PARITY_FILE = "parity.json"
STEPS = 50
RATE = 0.1  # learning rate at most; see above
_EMULATED = "it is emulated, which takes minutes: `fedkeys parity` trains there"
GATE = 1e-5  # largest absolute difference of any weight after all steps


class UlpDistribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many float32 numbers lie between two weights, over all weights. Near 0 float32 is dense: see max_abs_diff."""

    p50: int
    p90: int
    p99: int


class RuntimeParity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a runtime is from TFF after all steps."""

    version: str
    max_abs_diff: float
    max_ulp: int
    ulp: UlpDistribution
    max_abs_diff_by_tensor: Mapping[str, float]
    loss_drift: tuple[float, ...]  # nats per token, a step each: the runtime's minus TFF's


class Int8Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often infer.tflite (int8) proposes what the same model in float32 proposes, on held-out text."""

    positions: int  # whose next word is in the vocabulary
    top1: float
    top3: float  # mean share of the three words that both propose


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What parity.json holds of a model of any kind."""

    schema: int = 1
    weights_sha256: str
    reference: str
    steps: int
    batch_size: int
    learning_rate: float
    gate: float
    reference_self_diff: float  # the reference against itself, the rows of each batch in reverse order
    runtimes: Mapping[str, RuntimeParity]

    @property
    def max_abs_diff(self) -> float:
        """The worst runtime's."""
        return float(np.max([r.max_abs_diff for r in self.runtimes.values()] or [np.nan]))

    @property
    def passed(self) -> bool:
        """True if every runtime that ran stays within the gate, and one ran."""
        return bool(self.runtimes) and all(r.max_abs_diff <= self.gate for r in self.runtimes.values())


class Certificate(Comparison, frozen=True, kw_only=True):
    """parity.json of a next-word model's bundle."""

    skipped: Mapping[str, str]  # runtime -> what it lacks here
    int8: Int8Agreement


@dataclass(frozen=True)
class Reference:
    """What TFF makes of the batches."""

    name: str
    delta: Weights  # weights before minus after all steps
    losses: Sequence[float]  # nats per token, a step each
    self_diff: float  # see Certificate


def read_certificate(content: bytes) -> Certificate:
    """Returns the certificate in parity.json.

    Raises:
      BundleError: it is damaged.
    """
    return decode_json(content, Certificate, PARITY_FILE, "export the run again")


def certify(
    files: Mapping[str, bytes],
    size: ModelSize,
    weights: Weights,
    weights_sha256: str,
    batches: Batches,
    learning_rate: float,
    reference: Reference,
    held_out: Sequence[np.ndarray],
    emulated: bool = False,
) -> Certificate:
    """Returns the certificate of a bundle's files.

    Args:
      files: {name: content}, the three TFLite files and a manifest of them among it.
      size: of the model.
      weights: that training starts from.
      weights_sha256: their digest.
      batches: STEPS batches of real text.
      learning_rate: of the steps.
      reference: what TFF made of the same.
      held_out: sentences as ids of the model's vocabulary, int [num_words] each, that the model was not trained on.
      emulated: whether emulated runtimes train, too, which takes minutes.
    """
    runtimes, skipped = {}, {}
    for name, runtime in RUNTIMES.items():
        missing = runtime.what_is_missing(files, size) if emulated or not runtime.is_emulated else _EMULATED
        if missing:
            skipped[name] = missing
            continue
        delta, losses = runtime.train(files, size, weights, batches, learning_rate)
        runtimes[name] = compare(runtime.version(), size.names, weights, delta, losses, reference)
    return Certificate(
        weights_sha256=weights_sha256,
        reference=reference.name,
        steps=len(batches.tokens),
        batch_size=batches.tokens.shape[1],
        learning_rate=learning_rate,
        gate=GATE,
        reference_self_diff=reference.self_diff,
        runtimes=runtimes,
        skipped=skipped,
        int8=int8_agreement(size, weights, files[INFER_FILE], held_out),
    )


def compare(
    version: str,
    names: Sequence[str],
    weights: Weights,
    delta: Weights,
    losses: Sequence[float],
    reference: Reference,
) -> RuntimeParity:
    """Returns how far two trainings are apart that started at `weights`, whose names are `names`."""
    after = [start - mine for start, mine in zip(weights, delta)]
    expected = [start - theirs for start, theirs in zip(weights, reference.delta)]
    drift = tuple(float(mine - theirs) for mine, theirs in zip(losses, reference.losses))
    return compare_weights(version, names, after, expected, drift)


def compare_weights(
    version: str,
    names: Sequence[str],
    after: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    loss_drift: tuple[float, ...],
) -> RuntimeParity:
    """Returns how far apart the weights after two trainings are, which the names are in the order of."""
    by_tensor, distances = {}, []
    for name, mine, theirs in zip(names, after, expected):
        by_tensor[name] = float(np.abs(mine.astype(np.float64) - theirs).max())
        distances.append(ulp_distance(mine, theirs).ravel())
    ulps = np.concatenate(distances)
    p50, p90, p99 = (int(v) for v in np.percentile(ulps, (50, 90, 99), method="higher"))
    return RuntimeParity(
        version=version,
        max_abs_diff=float(np.max(list(by_tensor.values()))),  # unlike max(), NaN if one is
        max_ulp=int(ulps.max()),
        ulp=UlpDistribution(p50, p90, p99),
        max_abs_diff_by_tensor=by_tensor,
        loss_drift=loss_drift,
    )


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns how many float32 steps lie between a and b, as int64; both signs of zero are one number.

    >>> one = np.float32([1.0])
    >>> ulp_distance(one, np.nextafter(one, np.float32(2))), ulp_distance(np.float32([0.0]), np.float32([-0.0]))
    (array([1]), array([0]))
    """

    def ordered(x: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    return np.abs(ordered(a) - ordered(b))


def int8_agreement(
    size: ModelSize, weights: Weights, infer_file: bytes, sentences: Sequence[np.ndarray]
) -> Int8Agreement:
    """Returns how far the int8 file's proposals agree with those of the same model in float32. Imports TensorFlow."""
    mine = _proposals(infer_file, size, sentences)
    theirs = _proposals(build_infer_file(size, weights, quantised=False), size, sentences)
    both = [len(set(a) & set(b)) / len(a) for a, b in zip(mine, theirs)]
    return Int8Agreement(len(mine), float(np.mean(mine[:, 0] == theirs[:, 0])), float(np.mean(both)))


def _proposals(content: bytes, size: ModelSize, sentences: Sequence[np.ndarray]) -> np.ndarray:
    """Returns what the one-step model proposes where the next word is in the vocabulary, int [positions, 3]."""
    infer = build_interpreter(content).get_signature_runner("infer")
    proposals = []
    for sentence in sentences:
        state: Mapping[str, np.ndarray] = size.start_state()
        for before, word in zip([BOS, *sentence[:-1]], sentence):
            got = infer(token=np.array([before], np.int32), **state)
            state = {name: got[f"next_{name}"] for name in state}
            if word >= NUM_SPECIAL:
                proposals.append(got["ids"][0])
    return np.array(proposals)

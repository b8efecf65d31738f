"""The golden batch: made-up sentences with the losses and weights that training steps on them must give, a step in each
shape of train.tflite among them.

Any client, in any runtime, tests itself with it. golden/expected.txt holds a name and a number a line, so that it takes
no JSON reader: learning_rate, tolerance (the largest absolute difference of a weight, and of a loss relative to it
where it is above 1), and a loss a step. The two other files are as edge.clients.files and the manifest describe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge.clients.files import batches_from_bytes, batches_to_bytes
from edge.clients.litert import TrainableModel
from edge.errors import BundleError
from edge.export.shapes import TrainShape
from edge.export.tflite import TRAIN_FILE
from models.batches import Batches, build_batches
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, Weights, largest_difference, weights_from_bytes, weights_to_bytes

GOLDEN_BATCHES = "golden/batches.bin"
GOLDEN_WEIGHTS = "golden/weights_after.bin"
GOLDEN_EXPECTED = "golden/expected.txt"
GOLDEN_FILES = (GOLDEN_BATCHES, GOLDEN_WEIGHTS, GOLDEN_EXPECTED)
TOLERANCE = 1e-5
_ROWS = 4  # sentences of a ragged batch


def golden_batches(
    vocabulary_size: int, time: int, batch_size: int = _ROWS, shapes: Sequence[TrainShape] = ()
) -> Batches:
    """Returns made-up batches, the same for every bundle of this size: nobody's text.

    The first three are ragged. Then each shape has one that fills it, so that no smaller shape holds it.

    >>> golden_batches(100, time=6, shapes=[TrainShape(2, 6)]).tokens.shape
    (4, 4, 6)
    """
    rng = np.random.default_rng(0)

    def sentence(num_words: int) -> np.ndarray:
        return rng.integers(NUM_SPECIAL, vocabulary_size, num_words)

    ragged = [sentence(rng.integers(1, time + 2)) for _ in range(3 * batch_size - 1)]  # one row is filling
    groups = [ragged[at : at + batch_size] for at in range(0, len(ragged), batch_size)]
    groups += [[sentence(length - 1) for length in _lengths_that_fill(shape)] for shape in shapes]  # <bos> is one more
    rows = max(batch_size, *map(len, groups))
    batches = [build_batches(group, batch_size=rows, time=time) for group in groups]
    return Batches(*(np.concatenate(parts) for parts in zip(*batches)))


def _lengths_that_fill(shape: TrainShape) -> list[int]:
    """Returns lengths of sentences that fill a shape to the last position; in half of the rows, two share a row.

    >>> _lengths_that_fill(TrainShape(3, 10))
    [6, 10, 10, 4]
    """
    num_shared, short = max(1, shape.rows // 2), 2 * shape.time // 5
    longer = [shape.time - short] * num_shared + [shape.time] * (shape.rows - num_shared)
    return longer + [short] * (num_shared if short else 0)


def golden_files(
    size: ModelSize,
    weights: Weights,
    time: int,
    clip_norm: float,
    learning_rate: float,
    batch_size: int = _ROWS,
    shapes: Sequence[TrainShape] = (),
) -> dict[str, bytes]:
    """Returns the golden batch's files: what TensorFlow, not TFLite, computes of it. Imports TensorFlow.

    A kind whose files take one batch size has golden batches of that, `batch_size`. `shapes` are those of train.tflite.
    """
    from models.model import load_model
    from models.network import Tensors
    from models.next_word import sgd_step

    num_rows = _ROWS if size.architecture.free_batch else batch_size
    model, batches = load_model(size), golden_batches(size.vocabulary_size, time, num_rows, shapes)
    after: Tensors = weights
    losses = []
    for tokens, targets, mask in zip(*batches):
        after, loss_sum, num_tokens = sgd_step(
            model, after, tokens, targets, mask, np.float32(learning_rate), clip_norm
        )
        losses.append(float(loss_sum / num_tokens))
    return {
        GOLDEN_BATCHES: batches_to_bytes(batches, size.vocabulary_size),
        GOLDEN_WEIGHTS: weights_to_bytes([np.asarray(w) for w in after]),
        GOLDEN_EXPECTED: expected_bytes(learning_rate, losses),
    }


def expected_bytes(learning_rate: float, losses: Sequence[float]) -> bytes:
    """Returns golden/expected.txt: the rate, the tolerance and each step's loss.

    >>> expected_bytes(0.5, [9.5]).decode().split("\\n")
    ['learning_rate 0.5', 'tolerance 1e-05', 'loss 9.50000000', '']
    """
    lines = [f"learning_rate {learning_rate!r}", f"tolerance {TOLERANCE!r}", *(f"loss {loss:.8f}" for loss in losses)]
    return ("\n".join(lines) + "\n").encode()


def check_golden(contents: Mapping[str, bytes], size: ModelSize, time: int) -> str:
    """Trains on the golden batch in LiteRT, and returns how far the result is off.

    Args:
      contents: {file of the bundle: content}, at least of GOLDEN_FILES and TRAIN_FILE.
      size, time: of the bundle's model.

    Raises:
      BundleError: it came to something else than TensorFlow's result.
    """
    expected = parse_expected(contents[GOLDEN_EXPECTED])
    batches = batches_from_bytes(contents[GOLDEN_BATCHES], size.vocabulary_size, time, GOLDEN_BATCHES)
    if len(expected["loss"]) != len(batches.tokens):
        raise BundleError(f"{GOLDEN_EXPECTED} does not fit {GOLDEN_BATCHES}: export the run again")
    if len(contents[GOLDEN_WEIGHTS]) != 4 * size.num_weights:
        raise BundleError(
            f"{GOLDEN_WEIGHTS} has {len(contents[GOLDEN_WEIGHTS])} bytes, not those of the model's weights"
        )
    after = weights_from_bytes(contents[GOLDEN_WEIGHTS], size)
    try:
        model = TrainableModel(contents[TRAIN_FILE], size.names)
        losses = [model.train_step(*batch, expected["learning_rate"][0])[0] for batch in zip(*batches)]
        worst = largest_difference(model.get_weights(), after)
    except Exception as error:  # what LiteRT raises depends on where a file is broken; other shapes are a ValueError
        raise BundleError(f"{TRAIN_FILE} can't be run ({' '.join(str(error).split())}): export the run again") from None
    return within_tolerance(worst, losses, expected)


def within_tolerance(worst: float, losses: Sequence[float], expected: Mapping[str, Sequence[float]]) -> str:
    """Returns how far a training on the golden batch is off.

    Args:
      worst: largest difference of a weight.
      losses: of each step.
      expected: of parse_expected.

    Raises:
      BundleError: further than golden/expected.txt allows.
    """
    worst_loss = float(np.max([abs(a - b) / max(1.0, abs(b)) for a, b in zip(losses, expected["loss"])]))
    tolerance = expected["tolerance"][0]  # parse_expected keeps it within TOLERANCE
    if not (worst <= tolerance and worst_loss <= tolerance):
        raise BundleError(
            f"the golden batch comes out {worst:.1e} off in the weights and {worst_loss:.1e} in the loss, "
            f"{tolerance:.0e} is allowed: this LiteRT computes something else; use a version from the manifest"
        )
    return f"{len(losses)} steps in LiteRT, weights within {worst:.1e} of TensorFlow's"


def parse_expected(content: bytes) -> dict[str, list[float]]:
    """Returns {name: its values in order} of golden/expected.txt, whose lines are a name and a number.

    Raises:
      BundleError: a line is something else, a name is missing, or a value lets any training pass.

    >>> parse_expected(b"learning_rate 0.5\\ntolerance 1e-05\\nloss 9.5\\nloss 9.25\\n")["loss"]
    [9.5, 9.25]
    """
    values: dict[str, list[float]] = {"learning_rate": [], "tolerance": [], "loss": []}
    try:
        for line in content.decode().splitlines():
            name, value = line.split(" ")
            values[name].append(float(value))
    except (ValueError, KeyError):
        raise BundleError(f"{GOLDEN_EXPECTED} is damaged: export the run again") from None
    if not all(values.values()):
        raise BundleError(f"{GOLDEN_EXPECTED} is cut off: export the run again")
    for tolerance in values["tolerance"]:
        if not 0 < tolerance <= TOLERANCE:
            raise BundleError(
                f"{GOLDEN_EXPECTED} allows a difference of {tolerance:g}, and {TOLERANCE:g} is the most that an export "
                "writes: do not use this bundle"
            )
    for rate in values["learning_rate"]:
        if not (rate > 0 and math.isfinite(rate)):
            raise BundleError(f"{GOLDEN_EXPECTED} trains at a rate of {rate:g}: do not use this bundle")
    return values

"""A person's arrays: what fits is brought into the model's types, what does not is refused in one line."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.keras_examples import ExampleSpec, check_examples
from edge.bundle.manifest import TensorEntry
from edge.errors import BundleError, DeviceDataError
from edge.on_device.keras_round import read_arrays


def entry(name, dtype, *shape, unit=""):
    return TensorEntry(name=name, dtype=dtype, shape=(4, *shape), unit=unit)


MASK = entry("mask", "float32")
CLASSIFIER = ExampleSpec((entry("image", "float32", 2, 3, 1), entry("targets", "int32", unit="class"), MASK), 5)
TWO_INPUTS = ExampleSpec(
    (
        entry("ids", "int32", 6, unit="id below 40"),
        entry("size", "float32", 1),
        entry("targets", "float32", 1),
        MASK,
    ),
    0,
)
BINARY = ExampleSpec((entry("x", "float32", 2), entry("targets", "float32", 1), MASK), 1)
X, Y = np.ones((3, 2, 3, 1), np.float32), np.array([0, 4, 2])


def test_arrays_come_back_by_name_in_the_models_types():
    examples = check_examples(CLASSIFIER, X.astype(np.float64), Y.astype(np.uint8), "ann")
    assert {name: (array.dtype.name, array.shape) for name, array in examples.items()} == {
        "image": ("float32", (3, 2, 3, 1)),
        "targets": ("int32", (3,)),
    }
    assert examples["targets"].tolist() == [0, 4, 2]
    both = {"ids": np.full((2, 6), 39), "size": np.array([1.5, 2.0])}
    examples = check_examples(TWO_INPUTS, both, np.array([[1.0], [2.0]]), "ann")
    assert (examples["size"].shape, examples["targets"].shape) == ((2, 1), (2, 1))
    in_order = check_examples(TWO_INPUTS, [both["ids"], both["size"]], np.array([1.0, 2.0]), "ann")
    assert all((in_order[name] == examples[name]).all() for name in examples)


def test_a_missing_axis_of_one_is_no_fault_as_in_keras():
    examples = check_examples(CLASSIFIER, X[..., 0], Y[:, None], "ann")
    assert (examples["image"].shape, examples["targets"].shape) == (X.shape, Y.shape)


def with_nan():
    bad = X.copy()
    bad[1, 0, 0, 0] = np.nan
    return bad


REFUSED = {
    "(3, 3, 2, 1), an example's is (2, 3, 1)": (CLASSIFIER, X.reshape(3, 3, 2, 1), Y),
    "the shape (), an example's": (CLASSIFIER, np.float32(1), Y),
    "image is of type <U1: give numbers": (CLASSIFIER, np.array(["a"]), Y),
    "image is of type complex64": (CLASSIFIER, X.astype(np.complex64), Y),
    "image is of type object": (CLASSIFIER, np.array([None, 1, 2]), Y),
    "image has rows of different lengths": (CLASSIFIER, [[1.0], [1.0, 2.0]], Y),
    "1 of 18 values of image are NaN or beyond float32": (CLASSIFIER, with_nan(), Y),
    "18 of 18 values of image are NaN or beyond": (CLASSIFIER, np.full(X.shape, 1e39), Y),
    "there is no example": (CLASSIFIER, X[:0], Y[:0]),
    "differ in length (3 in image, 2 in y)": (CLASSIFIER, X, Y[:2]),
    "y holds the class 5: it goes from 0 to 4": (CLASSIFIER, X, np.array([0, 5, 1])),
    "y holds the class -1": (CLASSIFIER, X, np.array([0, -1, 1])),
    "y holds the class 18446744073709551615": (CLASSIFIER, X, np.array([0, 2**64 - 1, 1], np.uint64)),
    "y is of type float64: classes are whole numbers": (CLASSIFIER, X, np.array([0.0, 1.0, 2.0])),
    "y has the shape (3, 5)": (CLASSIFIER, X, np.eye(5, dtype=int)[:3]),
    "called photo, the model takes image": (CLASSIFIER, {"photo": X}, Y),
    "takes 2 inputs: give ids, size": (TWO_INPUTS, X, Y),
    "x has 1 arrays, the model takes 2": (TWO_INPUTS, [X], Y),
    "ids holds the id 40: it goes from 0 to 39": (TWO_INPUTS, [np.full((3, 6), 40), np.ones(3)], np.ones(3)),
    "ids is of type float64: ids are whole": (TWO_INPUTS, [np.ones((3, 6)), np.ones(3)], np.ones(3)),
    "y holds 1.5: the share of a class": (BINARY, np.ones((1, 2)), np.array([1.5])),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_refused(reason):
    spec, x, y = REFUSED[reason]
    with pytest.raises(DeviceDataError) as refused:
        check_examples(spec, x, y, "people['ann']")
    assert reason in str(refused.value)
    assert str(refused.value).startswith("people['ann']")
    assert "\n" not in str(refused.value)


def saved(tmp_path: Path, **arrays: np.ndarray) -> Path:
    path = tmp_path / "ann.npz"
    np.savez(path, **arrays)
    return path


def test_a_file_holds_x_or_the_inputs_by_name(tmp_path):
    by_x = read_arrays(saved(tmp_path, x=X, y=Y), CLASSIFIER)
    by_name = read_arrays(saved(tmp_path, image=X, y=Y), CLASSIFIER)
    assert all((by_x[name] == by_name[name]).all() for name in ("image", "targets"))
    both = read_arrays(saved(tmp_path, ids=np.zeros((2, 6), int), size=np.ones(2), y=np.ones(2)), TWO_INPUTS)
    assert set(both) == {"ids", "size", "targets"}


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "ann.npz"
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (ran,))

    np.savez(path, x=np.array([Trap()], object), y=Y)
    for content, reason in (
        (path.read_bytes(), "damaged or holds no plain arrays"),
        (b"text", "is no .npz file"),
        (b"", "is no .npz file"),
        (saved(tmp_path, x=X, y=Y).read_bytes()[:200], "damaged"),
        (saved(tmp_path, x=X).read_bytes(), "holds no array y"),
        (saved(tmp_path, y=Y).read_bytes(), "called nothing, the model takes image"),
        (saved(tmp_path, x=X, z=X, y=Y).read_bytes(), "called x, z"),
    ):
        path.write_bytes(content)
        with pytest.raises(DeviceDataError, match=reason):
            read_arrays(path, CLASSIFIER)
    assert not ran.exists()
    with pytest.raises(DeviceDataError, match="can't be read"):
        read_arrays(tmp_path / "none.npz", CLASSIFIER)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("y.npy", b"no array")
    path.write_bytes(other.getvalue())
    with pytest.raises(DeviceDataError, match=str(path)):
        read_arrays(path, CLASSIFIER)


def test_ids_without_a_limit_are_not_handed_to_a_runtime():
    spec = ExampleSpec((entry("ids", "int32", 6), entry("targets", "float32", 1), MASK), 0)
    with pytest.raises(BundleError, match="does not say which ids"):
        check_examples(spec, np.ones((2, 6), int), np.ones(2), "ann")

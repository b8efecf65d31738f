"""libfedkeys refuses a model whose tensors' shapes are lies, before it counts with them."""

from __future__ import annotations

import shlex
import subprocess
from ctypes import byref, c_void_p
from os import environ
from pathlib import Path

import c_library
import pytest
from c_library import Bundle, Failed, call, library
from c_model import Model
from stand_in_bundle import FILES, manifest_of

from edge.bundle.folder import write_bundle
from edge.clients import c_client

LARGEST = 2**31 - 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model in a LiteRT that gives its one tensor the shape in FALSE_SHAPE."""
    library()  # skips the test where it can't be built
    folder = tmp_path_factory.mktemp("false")
    source, false = Path(c_library.__file__).with_name("false_litert.c"), folder / "libFalse.so"
    compiler = shlex.split(environ.get("CC") or "cc")
    subprocess.run([*compiler, "-shared", "-fPIC", f"-I{c_client.SOURCE}", source, "-o", false], check=True)
    write_bundle(folder / "bundle", FILES, manifest_of(FILES))
    litert = c_void_p()
    call("fk_litert_open", str(false).encode(), byref(litert))
    with Bundle(folder / "bundle") as bundle, Model(bundle, "infer.tflite", litert) as opened:
        yield opened
    library().fk_litert_close(litert)


def why_not(model, monkeypatch, shape):
    monkeypatch.setenv("FALSE_SHAPE", ",".join(map(str, shape)))
    with pytest.raises(Failed) as caught:
        call("fk_predictor_open", model.handle, byref(c_void_p()))
    assert caught.value.status == "UNSUPPORTED"
    return str(caught.value)


@pytest.mark.parametrize("shape", [(), (1, 3), (-1, 3), (1 << 27,), (1,) * 8])
def test_a_shape_is_taken(model, monkeypatch, shape):
    assert "has no tensor token" in why_not(model, monkeypatch, shape)  # the next one that it looks for


@pytest.mark.parametrize(
    "shape",
    [
        (1,) * 9,  # one dimension more than LiteRT's struct has room for
        (1,) * 127,
        (3, 0),
        ((1 << 27) + 1,),
        (1 << 16, 1 << 16),  # 4 * 2^32 bytes are 0 in 32 bits
        (1 << 16, 1 << 16, 1 << 16, 1 << 14),  # and 4 * 2^62 are 0 in 64
        (LARGEST,) * 8,
    ],
)
def test_a_lie_about_a_shape_is_refused(model, monkeypatch, shape):
    assert "hidden has a shape that none of fedkeys' has" in why_not(model, monkeypatch, shape)

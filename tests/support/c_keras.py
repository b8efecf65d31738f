"""Trains a Keras model's bundle through libfedkeys, by its signatures; in a process of its own, as c_model."""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_int32, c_void_p

import numpy as np
from c_library import READING, Bundle, Failed, call, library
from c_model import Model


class Array(Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", c_int32),
        ("shape", c_int32 * 8),
        ("bytes", ctypes.c_size_t),
    )


class Function:
    """A signature of a model; a context."""

    def __init__(self, model, signature, rows=1):
        self.handle = c_void_p()
        call("fk_function_open", model.handle, signature.encode(), c_int32(rows), byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library().fk_function_close(self.handle)

    def arrays(self, which):
        """[name, dtype, shape, bytes] of each of its inputs or outputs."""
        count, found, array = getattr(library(), f"fk_function_num_{which}s"), [], Array()
        count.restype = ctypes.c_size_t
        for index in range(count(self.handle)):
            call(f"fk_function_{which}", self.handle, ctypes.c_size_t(index), byref(array))
            found.append([array.name.decode(), array.dtype, array.shape[: array.rank], array.bytes])
        return found

    def put(self, name, content):
        call("fk_function_put", self.handle, name.encode(), content, ctypes.c_size_t(len(content)))

    def run(self):
        call("fk_function_run", self.handle)

    def get(self, name, size):
        content = ctypes.create_string_buffer(size)
        call("fk_function_get", self.handle, name.encode(), content, ctypes.c_size_t(size))
        return content.raw


def status_of(do):
    """How a call ends."""
    try:
        do()
    except Failed as error:
        return error.status
    return "OK"


def train_keras(folder, litert_path, arrays_path, rate):
    """What 50 steps of a Keras model's bundle come to, and what else its signatures say; `arrays_path` is an .npz."""
    litert, own = c_void_p(), np.load(arrays_path)
    call("fk_litert_open", litert_path.encode(), byref(litert))
    with Bundle(folder) as bundle, Model(bundle, "train.tflite", litert) as model, Function(model, "train") as train:
        bundle.verify()
        call("fk_self_test", bundle.handle, litert, c_int32(1), None)
        found = {"is_keras": bundle.info.is_keras, "count": model.count, "inputs": train.arrays("input"), "losses": []}
        found["outputs"] = train.arrays("output")
        found["refused"] = {
            "run without values": status_of(train.run),
            "get before a run": status_of(lambda: train.get("loss", 4)),
            "another size": status_of(lambda: train.put("learning_rate", b"12345678")),
            "no such input": status_of(lambda: train.put("rate", b"1234")),
            "text": status_of(lambda: call("fk_text_open", bundle.handle, byref(c_void_p()), needed=READING)),
            "predictor": status_of(lambda: call("fk_predictor_open", model.handle, byref(c_void_p()))),
        }
        train.put("learning_rate", np.float32(rate).tobytes())
        names = [name for name, *_ in found["inputs"] if name != "learning_rate"]
        for step in range(len({key.split("/")[0] for key in own})):
            for name in names:
                train.put(name, own[f"{step}/{name}"].tobytes())
            train.run()
            found["losses"].append(float(np.frombuffer(train.get("loss", 4), np.float32)[0]))
        found["weights"] = bytes(model.weights()).hex()
    library().fk_litert_close(litert)
    return found

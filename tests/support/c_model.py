"""Trains and predicts through libfedkeys; in a process of its own, so that no other LiteRT or TensorFlow is in it."""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, Structure, byref, c_bool, c_double, c_float, c_int32, c_void_p
from pathlib import Path

from c_library import Bundle, Failed, Text, call, library

RATE = c_double(0.5)
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", *(f"w{one}{other}" for one in "abcd" for other in "abcdefghijklmn"))
TYPED = "So. WAB wan"  # leaves the words 5 and 17 open


class Progress(Structure):
    _fields_ = (
        ("step", c_int32),
        ("num_steps", c_int32),
        ("num_examples", c_int32),
        ("num_tokens", c_int32),
        ("loss_sum", c_double),
        ("ms", c_double),
        ("is_done", c_bool),
        ("was_cancelled", c_bool),
    )


class Prediction(Structure):
    _fields_ = (("id", c_int32), ("probability", c_float))


class Model:
    """A model in LiteRT; a context. Others may be opened from its LiteRT."""

    def __init__(self, bundle, name, litert):
        self.handle, self.count = c_void_p(), bundle.info.num_weights
        call("fk_model_open", bundle.handle, name.encode(), litert, c_int32(1), byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library().fk_model_close(self.handle)

    def weights(self):
        weights = (c_float * self.count)()
        call("fk_model_get_weights", self.handle, weights, ctypes.c_size_t(self.count))
        return weights

    def set_weights(self, weights):
        call("fk_model_set_weights", self.handle, weights, ctypes.c_size_t(len(weights)))


class Training:
    """A training; a context. `saved`: where it goes on."""

    def __init__(self, model, batches, saved=None):
        self.handle, self.model = c_void_p(), model
        if saved is None:
            call("fk_training_open", model.handle, batches, RATE, byref(self.handle))
        else:
            size = ctypes.c_size_t(len(saved))
            call("fk_training_resume", model.handle, batches, RATE, saved, size, byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library().fk_training_close(self.handle)

    def run(self, max_steps=0, budget_ms=0):
        progress = Progress()
        limits = ctypes.c_uint32(max_steps), ctypes.c_uint32(budget_ms)
        call("fk_training_run", self.handle, *limits, byref(progress))
        return progress

    def cancel(self):
        library().fk_training_cancel(self.handle)

    def save(self):
        content, size = c_void_p(), ctypes.c_size_t()
        call("fk_training_save", self.handle, byref(content), byref(size))
        saved = ctypes.string_at(content, size.value)
        library().fk_free(content)
        return saved

    def losses(self):
        get_losses, count = library().fk_training_losses, ctypes.c_size_t()
        get_losses.restype = POINTER(c_double)
        return get_losses(self.handle, byref(count))[: count.value]

    def update(self):
        update = (c_float * self.model.count)()
        call("fk_training_update", self.handle, update, ctypes.c_size_t(self.model.count))
        return bytes(update)


def outcome(training, progress):
    fields = {name: getattr(progress, name) for name, _ in Progress._fields_ if name != "ms"}
    return {**fields, "losses": training.losses(), "update": training.update().hex()}


def train_in_one_go(model, batches):
    with Training(model, batches) as training:
        return outcome(training, training.run())


def train_in_slices(model, batches, start):
    """A step at a time, each in a training that goes on where the one before was saved."""
    saved, steps = None, []
    while True:
        model.set_weights(start)
        with Training(model, batches, saved) as training:
            progress = training.run(1)
            steps.append(progress.step)
            if progress.is_done:
                return {**outcome(training, progress), "steps": steps}
            saved = training.save()


def train_and_cancel(model, batches):
    """What runs that were cancelled before, and in between, did."""
    with Training(model, batches) as training:
        training.cancel()
        first = training.run()
        one = training.run(1)
        training.cancel()
        third = training.run(1)
        last = training.run()
        seen = [[p.step, p.was_cancelled, p.is_done] for p in (first, one, third, last)]
        return {**outcome(training, last), "seen": seen}


def refusals_to_resume(model, batches, others, start):
    """How each damaged or foreign saved training is refused."""
    model.set_weights(start)
    with Training(model, batches) as training:
        training.run(1)
        saved = training.save()
    found = {}
    others_start = (c_float * model.count)(*start)
    others_start[0] += 1
    for name, content, those, weights in (
        ("empty", b"x", batches, start),
        ("cut", saved[:-1], batches, start),
        ("another kind", b"FKTRAIN2" + saved[8:], batches, start),
        ("negative step", saved[:20] + b"\xff" * 4 + saved[24:], batches, start),
        ("other batches", saved, others, start),
        ("other weights", saved, batches, others_start),
    ):
        model.set_weights(weights)
        try:
            with Training(model, those, content):
                found[name] = "OK"
        except Failed as error:
            found[name] = error.status
    return found


def predictions(model, prefixes):
    """[id, probability] of each prediction after each prefix; a predictor that remembers, and one anew each time."""
    kept, found = c_void_p(), []
    call("fk_predictor_open", model.handle, byref(kept))
    for prefix in prefixes:
        ids, pairs = (c_int32 * max(1, len(prefix)))(*prefix), []
        anew = c_void_p()
        call("fk_predictor_open", model.handle, byref(anew))
        for predictor in (kept, anew):
            three = (Prediction * 3)()
            call("fk_predictor_after", predictor, ids, ctypes.c_size_t(len(prefix)), three)
            pairs.append([[one.id, one.probability] for one in three])
        library().fk_predictor_close(anew)
        found.append(pairs)
    library().fk_predictor_forget(kept)
    library().fk_predictor_close(kept)
    return found


def words_after(model, vocabulary, typed):
    predictor, words = c_void_p(), (ctypes.c_char_p * 3)()
    with Text(vocabulary) as text:
        call("fk_predictor_open", model.handle, byref(predictor))
        content = typed.encode()
        call("fk_predict_words", predictor, text.handle, content, ctypes.c_size_t(len(content)), words)
        library().fk_predictor_close(predictor)
        return [word.decode() for word in words]


def steps_of_calls(folder, litert_path, batches_path):
    """How many steps are done after each call with a millisecond to spend; the last call has an hour."""
    litert, batches = c_void_p(), opened_batches(Path(batches_path))
    call("fk_litert_open", litert_path.encode(), byref(litert))
    with Bundle(folder) as bundle, Model(bundle, "train.tflite", litert) as model, Training(model, batches) as training:
        found = [training.run(budget_ms=ms).step for ms in (1, 1, 3_600_000)]
    library().fk_batches_close(batches)
    library().fk_litert_close(litert)
    return found


def opened_batches(path):
    content, batches = path.read_bytes(), c_void_p()
    call("fk_batches_parse", content, ctypes.c_size_t(len(content)), b"batches", byref(batches))
    return batches


def main(folder, litert_path, batches_path, others_path, prefixes):
    prefixes = json.loads(prefixes)
    litert, batches, others = c_void_p(), opened_batches(Path(batches_path)), opened_batches(Path(others_path))
    call("fk_litert_open", litert_path.encode(), byref(litert))
    with Bundle(folder) as bundle:
        with Model(bundle, "train.tflite", litert) as model:
            start = model.weights()
            found = {"whole": train_in_one_go(model, batches), "slices": train_in_slices(model, batches, start)}
            model.set_weights(start)
            found["cancelled"] = train_and_cancel(model, batches)
            found["refused"] = refusals_to_resume(model, batches, others, start)
            model.set_weights(start)
            found["of the model that trains"] = predictions(model, prefixes[:2])
        with Model(bundle, "infer.tflite", litert) as model:
            found["predictions"] = predictions(model, prefixes)
            found["words"] = words_after(model, "".join(f"{word}\n" for word in WORDS).encode(), TYPED)
    for each in (batches, others):
        library().fk_batches_close(each)
    library().fk_litert_close(litert)
    return found

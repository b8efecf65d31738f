"""libfedkeys from Python, by ctypes: what a binding of another language does."""

from __future__ import annotations

import ctypes
import json
import shlex
import shutil
import subprocess
import sys
from ctypes import POINTER, Structure, byref, c_bool, c_char, c_char_p, c_double, c_int, c_int32, c_uint8, c_void_p
from functools import cache
from os import environ, pathsep

import pytest

from edge.clients import c_client

CODES = ("OK", "BAD_ARGUMENT", "NO_MEMORY", "IO", "DAMAGED", "UNSUPPORTED", "UNTRUSTED", "CRYPTO", "RUNTIME", "DIFFERS")


class Error(Structure):
    _fields_ = (("status", c_int), ("message", c_char * 256))


class Trust(Structure):
    _fields_ = (("public_key", c_char_p), ("require_signature", c_bool))


class BundleInfo(Structure):
    _fields_ = (
        ("tokeniser", c_int32),
        ("vocabulary_size", c_int32),
        ("embedding_size", c_int32),
        ("num_cells", c_int32),
        ("max_words", c_int32),
        ("num_weights", ctypes.c_size_t),
        ("epochs", c_int32),
        ("batch_size", c_int32),
        ("max_sentences", c_int32),
        ("learning_rate", c_double),
        ("clip_norm", c_double),
        ("is_signed", c_bool),
        ("public_key", c_uint8 * 32),
        ("manifest_sha256", c_uint8 * 32),
        ("is_keras", c_bool),
    )


class Failed(Exception):
    """A call that did not end well.

    Attributes:
      status: "DAMAGED", for instance.
    """

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


@cache
def library(*needed):
    """Builds and loads the library; skips the test where a compiler or one of the libraries is missing."""
    compiler = shlex.split(environ.get("CC") or "cc")[0]
    missing = [tool for tool in ("make", compiler, "pkg-config") if shutil.which(tool) is None]
    missing += [name for name in ("libcrypto", *needed) if not c_client.has_library(name)]
    if missing:
        pytest.skip(f"libfedkeys can't be built: {' and '.join(missing)} not found")
    return ctypes.CDLL(environ.get("FEDKEYS_LIBRARY") or str(built()))  # one, whatever was asked for


def built(*settings, kind=""):
    """Runs make for the library; returns the shared object."""
    folder = c_client.build_folder()
    command = ["make", "-s", "-C", str(c_client.SOURCE), "lib", f"BUILD={folder}", "LITERT=none", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / f"libfedkeys{kind}.so"


def in_c_model(function, *words, module="c_model", **environment):
    """What a function of c_model, or of another module, returns in a process of its own."""
    program = f"import json, sys, {module}; print(json.dumps({module}.{function}(*sys.argv[1:])))"
    command = [sys.executable, "-c", program, *map(str, words)]
    environment = {**environ, "PYTHONPATH": pathsep.join(sys.path), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def call(name, *args, needed=()):
    """Calls a function that takes an fk_error last; raises Failed."""
    error = Error()
    status = getattr(library(*needed), name)(*args, byref(error))
    assert error.status == status
    if status:
        raise Failed(CODES[status], error.message.decode())
    assert error.message == b""


class Bundle:
    """An open bundle; a context."""

    def __init__(self, folder, public_key=None, require_signature=False):
        self.handle, trust = c_void_p(), Trust(public_key, require_signature)
        call("fk_bundle_open", str(folder).encode(), byref(trust), byref(self.handle))
        get_info = library().fk_bundle_get_info
        get_info.restype = POINTER(BundleInfo)
        self.info = get_info(self.handle).contents

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library().fk_bundle_close(self.handle)

    def read(self, name):
        content, size = c_void_p(), ctypes.c_size_t()
        call("fk_bundle_read", self.handle, name.encode(), byref(content), byref(size))
        copy = ctypes.string_at(content, size.value)
        library().fk_free(content)
        return copy

    def verify(self):
        call("fk_bundle_verify", self.handle)


def public_key_from_pem(pem):
    key = ctypes.create_string_buffer(32)
    call("fk_public_key_from_pem", pem, ctypes.c_size_t(len(pem)), key)
    return key.raw


READING = ("libpcre2-8", "libutf8proc")


class Text:
    """The tokeniser and a word list; a context."""

    def __init__(self, vocabulary, tokeniser=2):
        self.handle = c_void_p()
        size = ctypes.c_size_t(len(vocabulary))
        call("fk_text_open_words", vocabulary, size, c_int32(tokeniser), byref(self.handle), needed=READING)
        self.library = library(*READING)
        self.library.fk_sentences_count.restype = ctypes.c_size_t
        self.library.fk_sentences_words.restype = c_char_p
        self.library.fk_sentences_ids.restype = POINTER(c_int32)
        self.library.fk_text_word.restype = c_char_p

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.library.fk_text_close(self.handle)

    def word(self, word_id):
        word = self.library.fk_text_word(self.handle, c_int32(word_id))
        return word if word is None else word.decode()

    def read(self, function, text):
        """[(words, ids) of each sentence] of what fk_text_sentences, fk_text_unfinished or fk_text_from_words reads."""
        found, content = c_void_p(), text if isinstance(text, bytes) else text.encode()
        call(function, self.handle, content, ctypes.c_size_t(len(content)), byref(found), needed=READING)
        try:
            return [self._sentence(found, index) for index in range(self.library.fk_sentences_count(found))]
        finally:
            self.library.fk_sentences_close(found)

    def _sentence(self, found, index):
        words = self.library.fk_sentences_words(found, ctypes.c_size_t(index)).decode()
        count = ctypes.c_size_t()
        ids = self.library.fk_sentences_ids(found, ctypes.c_size_t(index), byref(count))
        return words.split(" ") if words else [], ids[: count.value] if count.value else []


class Drawing(Structure):
    _fields_ = (
        ("epochs", c_int32),
        ("batch_size", c_int32),
        ("max_sentences", c_int32),
        ("time", c_int32),
        ("vocabulary_size", c_int32),
        ("length_buckets", c_int32),
        ("seed", ctypes.c_uint32),
    )


def drawn_batches(sentences, **drawing):
    """The bytes of the batches that are drawn from sentences of ids."""
    arrays = [(c_int32 * max(1, len(ids)))(*ids) for ids in sentences]
    pointers = (POINTER(c_int32) * max(1, len(arrays)))(*(ctypes.cast(ids, POINTER(c_int32)) for ids in arrays))
    lengths = (ctypes.c_size_t * max(1, len(arrays)))(*map(len, sentences))
    batches, size = c_void_p(), ctypes.c_size_t()
    count = ctypes.c_size_t(len(arrays))
    call("fk_batches_draw", pointers, lengths, count, byref(Drawing(**drawing)), byref(batches))
    get_bytes = library().fk_batches_bytes
    get_bytes.restype = c_void_p
    content = ctypes.string_at(get_bytes(batches, byref(size)), size.value)
    library().fk_batches_close(batches)
    return content


class Store:
    """A store of sentences; a context."""

    def __init__(self, path, cap):
        self.handle = c_void_p()
        call("fk_store_open", str(path).encode(), ctypes.c_size_t(cap), byref(self.handle), needed=READING)
        library().fk_store_count.restype = ctypes.c_size_t
        library().fk_store_words.restype = c_char_p

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library().fk_store_close(self.handle)

    def words(self):
        count = library().fk_store_count(self.handle)
        assert library().fk_store_words(self.handle, ctypes.c_size_t(count)) is None
        return [library().fk_store_words(self.handle, ctypes.c_size_t(index)).decode() for index in range(count)]

    def add(self, text, message):
        found, content = c_void_p(), message.encode()
        call("fk_text_sentences", text.handle, content, ctypes.c_size_t(len(content)), byref(found), needed=READING)
        try:
            call("fk_store_add", self.handle, found)
        finally:
            library().fk_sentences_close(found)

    def wipe(self):
        call("fk_store_wipe", self.handle)

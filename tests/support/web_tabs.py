"""Phones' tabs in Chromium, one profile each, whose training a test can compute: see fixed_litert.ts."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from loopback import WORDS
from small_manifest import small_manifest
from web_browser import WEB

from edge.bundle.folder import write_bundle
from edge.bundle.golden import GOLDEN_BATCHES, GOLDEN_EXPECTED, GOLDEN_WEIGHTS, TOLERANCE, golden_batches
from edge.bundle.manifest import RunEntry
from edge.bundle.signing import generate_key
from edge.bundle.vectors import VECTORS_FILE, vectors_bytes
from edge.clients.files import batches_to_bytes
from models.tokeniser import LATEST
from models.vocabulary import EOS, UNK
from models.weights import weights_to_bytes
from orchestrator.network import messages
from orchestrator.network.errors import WireError
from orchestrator.rounds.build import model_size

STEP = 2.0**-5  # of the training: up to 16 of them are whole steps of the encoder's grid for ten clients, see below
WORKER = WEB / "build" / "fixed_worker.js"
_PATIENCE_S = 90.0  # beyond that of tabs.mjs


class Tabs:
    """A browser whose tabs do what they are told; any thread may tell them."""

    def __init__(self, browser):
        command = ["node", WEB / "tests" / "tabs.mjs", browser]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._numbers, self._waiting, self._lock = itertools.count(), {}, threading.Lock()
        threading.Thread(target=self._hear, daemon=True).start()

    def ask(self, tab, command, how=None):
        """Returns what a command of tabs.mjs gives."""
        answered = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answered
            line = {"id": number, "tab": tab, "do": command, "with": how}
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
        said = answered.result(_PATIENCE_S)
        assert "error" not in said, (tab, command, said["error"])
        return said["ok"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _hear(self):
        for line in self._process.stdout:
            said = json.loads(line)
            self._waiting.pop(said["id"]).set_result(said)


class Phone:
    """A person with a tab open, who does not reload it unless that is said."""

    def __init__(self, tabs, name, url):
        self.name, self._tabs, self._url, self.is_open = name, tabs, url, False

    def __repr__(self):
        return f"Phone({self.name!r})"

    def do(self, command, how=None):
        return self._tabs.ask(self.name, command, how)

    def until(self, condition):
        """Returns what a condition in the page gives, once it is true."""
        return self.do("until", condition)

    def text(self, identity):
        return self.do("evaluate", f"document.getElementById({identity!r}).textContent")

    def says(self, identity, words):
        """Returns what a place says, once it holds the words."""
        place = f"document.getElementById({identity!r}).textContent"
        return self.until(f"{place}.includes({json.dumps(words)}) && {place}")

    def open(self, before=None, part="join", devtools=None):
        self.do("open", {"url": f"{self._url}/#{part}", "before": before, "devtools": devtools})
        self.is_open = True

    def close(self):
        self.do("close")
        self.is_open = False

    def forget(self):
        """Throws the phone away, with all that it keeps."""
        self.do("forget")
        self.is_open = False

    def types(self, lines):
        self.do("upload", {"selector": "#words-file", "text": "\n".join(lines)})
        self.says("words-outcome", "imported")

    def enrols(self, code):
        self.do("fill", {"selector": "#join-code", "value": code})
        self.do("fill", {"selector": "#join-name", "value": self.name})
        self.do("tap", "#join-enrol")

    def joins(self):
        """Takes part as soon as the server runs rounds."""
        self.do("evaluate", 'window.dispatchEvent(new Event("hashchange"))')  # asks the server now
        self.until('!document.getElementById("join-ready").hidden')
        self.do(
            "evaluate", 'document.getElementById("join-allow").checked || document.getElementById("join-allow").click()'
        )
        self.until('!document.getElementById("join-start").disabled')
        self.do("tap", "#join-start")

    def traffic(self):
        """Everything that left the browser, and what came over WebSockets."""
        seen = self.do("seen")
        assert seen["errors"] == []
        return tuple([base64.b64decode(frame) for frame in seen[way]] for way in ("sent", "received"))

    def uploads(self):
        """The rounds for which a masked vector left the browser, in order."""
        found = []
        for frame in self.traffic()[0]:
            with contextlib.suppress(WireError):
                answer = messages.decode(frame, messages.TO_SERVER)
                if isinstance(answer, messages.Answer) and answer.stage == "upload":
                    found.append(answer.round_num)
        return found

    def leaves(self):
        """Whatever it does, it takes part no more."""
        self.do(
            "evaluate", 'document.getElementById("join-stop").hidden || document.getElementById("join-stop").click()'
        )
        self.until('document.getElementById("join-stop").hidden')


@contextlib.contextmanager
def tabs_of(browser):
    if not WORKER.is_file():
        pytest.skip("the page's worker for tests is not built: make web, which needs Node 20")
    tabs = Tabs(browser)
    try:
        yield tabs
    finally:
        tabs.close()


def fixed_page(page, folder):
    """The built page, with the worker whose training can be computed."""
    shutil.copytree(page, folder, ignore=shutil.ignore_patterns("*.br", "litert", "worker.js"))
    shutil.copy(WORKER, folder / "worker.js")
    (folder / "litert").mkdir()
    for name in ("litert_wasm_internal.js", "litert_wasm_internal.wasm"):  # which the page keeps for later
        (folder / "litert" / name).write_bytes(b"nothing")
    return folder


def fixed_bundle(folder, config):
    """A signed bundle of the run's size, whose model counts words."""
    size, time, rows = model_size(config.model, WORDS.size), config.data.max_words, config.client.batch_size
    described = {
        "rows": rows, "time": time, "step": STEP, "words": size.vocabulary_size,
        "embedding": size.embedding_size, "cells": size.num_cells,
        "weights": [{"name": name, "shape": list(shape)} for name, shape in size.by_name.items()],
    }  # fmt: skip
    batches = golden_batches(size.vocabulary_size, time)
    targets = batches.targets[batches.mask > 0]
    model = json.dumps(described).encode()
    files = {
        "train.tflite": model,
        "infer.tflite": model,
        "vocabulary.txt": "".join(f"{word}\n" for word in WORDS.words).encode(),
        VECTORS_FILE: vectors_bytes(LATEST, WORDS),
        GOLDEN_BATCHES: batches_to_bytes(batches, size.vocabulary_size),
        GOLDEN_EXPECTED: f"learning_rate 0.5\ntolerance {TOLERANCE!r}\n".encode(),
        GOLDEN_WEIGHTS: weights_to_bytes([-part for part in counted(targets, size)]),
    }
    run = RunEntry(1, "", "", "", "", WORDS.digest)
    manifest = small_manifest(files, size, time, clip_norm=config.client.clip_norm, batch_size=rows, run=run)
    from msgspec.structs import replace

    generate_key(folder.with_suffix(".key"))
    write_bundle(folder, files, replace(manifest, tokeniser=LATEST.version), folder.with_suffix(".key"))
    return folder


def counted(targets, size):
    """The update after a training on these target words: the counterpart of fixed_litert.ts."""
    counts = np.bincount(np.asarray(targets), minlength=size.vocabulary_size)
    flat = np.float32(STEP) * counts[np.arange(size.num_weights) % size.vocabulary_size].astype(np.float32)
    ends = np.cumsum([int(np.prod(shape)) for shape in size.shapes])
    return tuple(part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), size.shapes))


def update_of(lines, size):
    """The update of a phone that kept these lines and nothing else: it holds every fifth sentence out."""
    ids = {word: number for number, word in enumerate(WORDS.words)}
    trained = [line for number, line in enumerate(lines, 1) if number % 5]
    return counted([i for line in trained for i in (*(ids.get(w, UNK) for w in line.split()), EOS)], size)

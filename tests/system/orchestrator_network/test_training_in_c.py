"""Clients that train through the C library: Python's, also on an emulated ARM64, and the example over WebSocket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from c_client_bundle import build_trainable, write
from loopback import NAMES, TEXTS, WORDS, Peer, config_of, first_state, in_one_process, serving
from memcheck import under_valgrind

from edge.clients import arm64, c_client
from edge.errors import ClientError
from models.batches import Batches
from orchestrator.aggregator import DropStage
from orchestrator.errors import ConfigError
from orchestrator.network.authority import make_keys
from orchestrator.network.bundle_trainer import bundle_trainer
from orchestrator.network.certificates import SERVER
from orchestrator.network.session import Deadlines
from orchestrator.network.tls import Tls, web_context
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_site import Site
from orchestrator.rounds.build import cut, draw_batches, load_trainer, model_size
from orchestrator.rounds.round import weights_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS = {"data.max_words": 6, "client.batch_size": 4, "client.clip_norm": 0.0}
CONFIG = config_of(**SETTINGS)
SIZE = model_size(CONFIG.model, WORDS.size)
WEIGHTS = first_state(CONFIG).weights
PATIENT = Deadlines(clients_s=200.0, train_s=60.0, stage_s=60.0)  # the example tests its device before it connects


@pytest.fixture(scope="module", autouse=True)
def built():
    if c_client.why_not():
        pytest.skip(f"no C client: {c_client.why_not()}")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write(tmp_path_factory.mktemp("trainer") / "bundle", build_trainable(SIZE, WEIGHTS, 6), SIZE)


@pytest.fixture(scope="module")
def trainer(bundle):
    return bundle_trainer(bundle)(CONFIG, SIZE)


def batches_of(name):
    sentences = cut(tuple(map(WORDS.encode, TEXTS[name])), SIZE.vocabulary_size)
    return draw_batches(CONFIG, sentences, np.random.default_rng(1))


@pytest.mark.parametrize("processor", ["this", "aarch64"])
def test_it_trains_as_tensorflow_does(bundle, processor):
    if processor == "aarch64" and arm64.why_not():
        pytest.skip(f"no processor for ARM64: {arm64.why_not()}")
    run = arm64.run_arm64_client if processor == "aarch64" else c_client.run_c_client
    own = bundle_trainer(bundle, run)(CONFIG, SIZE)(WEIGHTS, 0.5, 0, batches_of(NAMES[2]))
    theirs = load_trainer(CONFIG, SIZE)(WEIGHTS, 0.5, 0, batches_of(NAMES[2]))
    assert own["is_finite"]
    assert (own["num_tokens"], own["num_examples"]) == (int(theirs["num_tokens"]), int(theirs["num_examples"]))
    assert own["loss_sum"] == pytest.approx(float(theirs["loss_sum"]), rel=1e-5)
    for mine, other in zip(own["delta"], theirs["delta"]):
        assert np.abs(mine).max() > 1e-3
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_round_over_tls_is_that_of_one_process(bundle, tmp_path):
    """All clients train through the C library, and the sum has what they learnt, to the bit."""
    keys, build_trainer = tmp_path / "keys", bundle_trainer(bundle)
    make_keys(keys, NAMES)
    with serving(keys, tmp_path, CONFIG) as served:
        peers = [Peer(keys, served, name, load_trainer=build_trainer) for name in NAMES]
    assert [(peer.join().goodbye, peer.error) for peer in peers] == [("all done", None)] * len(NAMES)
    (report,) = served.rounds
    assert report.outcome == "completed"
    alone = in_one_process(CONFIG, first_state(CONFIG), report, {}, build_trainer)
    assert report.weights_sha256 == weights_digest(alone.weights)


def test_the_command_trains_through_the_c_library(bundle, tmp_path):
    """One of the clients is `fedkeys client --bundle`; the sum has what it learnt, to the bit."""
    keys, text, build_trainer = tmp_path / "keys", tmp_path / "ann.txt", bundle_trainer(bundle)
    make_keys(keys, NAMES)
    text.write_text("\n".join(TEXTS[NAMES[0]]))
    with serving(keys, tmp_path, CONFIG, deadlines=PATIENT) as served:
        peers = [Peer(keys, served, name, load_trainer=build_trainer) for name in NAMES[1:]]
        server = ["--server", served.address, "--keys", keys, "--answer-step", "0", "--min-survivors", "2"]
        own = ["--client-id", NAMES[0], "--data", text, "--bundle", bundle]
        command = [sys.executable, "-m", "orchestrator.cli", "client", *server, *own]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert [(peer.join().goodbye, peer.error) for peer in peers] == [("all done", None)] * 5
    (report,) = served.rounds
    assert list(report.survivors) == list(NAMES), report.reason
    alone = in_one_process(CONFIG, first_state(CONFIG), report, {}, build_trainer)
    assert report.weights_sha256 == weights_digest(alone.weights)


@pytest.mark.parametrize("nothing", ["no sentence", "rate 0"])
def test_who_has_nothing_to_train_sends_zeros(trainer, nothing):
    batches = batches_of(NAMES[0])
    if nothing == "no sentence":
        batches = Batches(*(part[:0] for part in batches))
    result = trainer(WEIGHTS, 0.0 if nothing == "rate 0" else 0.5, 0, batches)
    assert result["is_finite"]
    assert (result["num_tokens"], result["num_examples"]) == (batches.num_tokens, batches.num_examples)
    assert not any(tensor.any() for tensor in result["delta"])


def test_weights_that_go_non_finite_are_no_error(trainer):
    """The server could read from an error that somebody typed the word that made it."""
    huge = tuple(np.float32(1e30) * tensor for tensor in WEIGHTS)
    assert not trainer(huge, 10.0, 0, batches_of(NAMES[2]))["is_finite"]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("size of the model", {"model.num_cells": 6}),
        ("data.max_words", {"data.max_words": 7}),
        ("client.clip_norm", {"client.clip_norm": 1.0}),
        ("client.proximal", {"client.proximal": 0.1}),
        ("client.dropout", {"client.dropout": 0.1}),
    ],
)
def test_a_bundle_of_another_run_is_refused(bundle, name, others):
    config = config_of(**{**SETTINGS, **others})
    with pytest.raises(ConfigError, match=f"bundle trains with another {name}: name a bundle that fits by --bundle"):
        bundle_trainer(bundle)(config, model_size(config.model, WORDS.size))


def test_a_machine_that_fails_the_self_test_does_not_train(bundle, tmp_path):
    def fails(words):
        raise ClientError("the self-test came to other numbers")

    with pytest.raises(ClientError, match="other numbers"):
        bundle_trainer(bundle, fails)


def build_example(kind="", *options):
    """Returns the example client; `kind` ends its name."""
    needed = ("libcurl", "libcrypto", "libpcre2-8", "libutf8proc")
    missing = [name for name in needed if not c_client.has_library(name)]
    if missing:
        pytest.skip(f"no example client: pkg-config finds no {' and no '.join(missing)}")
    folder = c_client.build_folder()
    command = ["make", "-s", "-C", c_client.SOURCE, "example", f"BUILD={folder}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / f"take_part{kind}"


@pytest.fixture(scope="module")
def example():
    """The command of the example client with sanitizers."""
    return [build_example("-sanitized", "SANITIZE=address,undefined")]


def take_part(example, url, keys, bundle, text):
    environment = {**os.environ, "FEDKEYS_LITERT": str(c_client.litert_library()), "FEDKEYS_ANSWER_STEP_MS": "0"}
    words = [*example, url, keys, NAMES[0], bundle, text]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("watched_by", ["sanitizers", "valgrind"])
def test_the_example_takes_part_over_a_websocket(watched_by, request, bundle, tmp_path, monkeypatch):
    """It is one of six in two rounds, the others over gRPC; the sums have what it learnt of its text."""
    sanitized = watched_by == "sanitizers"
    example = request.getfixturevalue("example") if sanitized else under_valgrind(build_example())
    keys, text = tmp_path / "keys", tmp_path / "ann.txt"
    config = config_of(2, **SETTINGS, **{"aggregation.min_survivors": 3, "server.learning_rate": 1.0})
    monkeypatch.setitem(TEXTS, NAMES[0], ("the friend of my class", "house of the house"))  # not what the others typed
    make_keys(keys, NAMES)
    text.write_text("\n".join(TEXTS[NAMES[0]]))
    build_trainer, tls = bundle_trainer(bundle), Tls.of_role(keys, SERVER)
    with WebDoor(Site(None, None)) as door:
        url = f"https://localhost:{door.listen('localhost:0', web_context(tls.chain, tls.key))}"
        with serving(keys, tmp_path, config, web=door, deadlines=PATIENT) as served:
            peers = [Peer(keys, served, name, load_trainer=build_trainer) for name in NAMES[1:]]
            done = take_part(example, url, keys, bundle, text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["round 1: trained", "round 2: trained", "all done"]
    assert [(peer.join().goodbye, peer.error) for peer in peers] == [("all done", None)] * 5
    with_it = without_it = first_state(config)
    for report in served.rounds:
        assert list(report.survivors) == list(NAMES), report.reason
        gone = {NAMES[0]: DropStage.BEFORE_UPLOAD}
        without_it = in_one_process(config, with_it, report, gone, build_trainer)
        with_it = in_one_process(config, with_it, report, {}, build_trainer)
    assert furthest(served.state, with_it) < 1e-5
    assert furthest(served.state, without_it) > 1e-3
    assert json.loads((keys / "state" / f"{NAMES[0]}.json").read_bytes())["last_rounds"] == {"0": 2}


@contextmanager
def answering(answer):
    """A server that says this to its first client, whatever it is asked; gives its port."""
    with socket.create_server(("localhost", 0)) as listener:

        def run():
            with listener.accept()[0] as client:
                client.recv(1)
                client.sendall(answer)
                while client.recv(4096):
                    pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(40)


def furthest(state, other):
    return max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(state.weights, other.weights))


def test_the_example_goes_to_the_operator_s_server_only(example, bundle, tmp_path):
    keys, others, text = tmp_path / "keys", tmp_path / "others", tmp_path / "ann.txt"
    for folder in (keys, others):
        make_keys(folder, NAMES)
    text.write_text("see you")
    refusals = []
    for folder in (others, keys):
        tls = Tls.of_role(folder, SERVER)
        with WebDoor(Site(None, None)) as door:
            port = door.listen("localhost:0", web_context(tls.chain, tls.key))
            door.end_rounds("all done")
            refusals.append(take_part(example, f"https://localhost:{port}", keys, bundle, text))
    refusals.append(take_part(example, "http://keyboard.example:80", keys, bundle, text))
    with answering(b"HTTP/1.1 404 \x1b[31mred\r\n\r\n") as port:
        refusals.append(take_part(example, f"http://localhost:{port}", keys, bundle, text))
    assert [done.returncode for done in refusals] == [2, 2, 2, 2]
    stranger, over, plain, red = (done.stderr.splitlines()[-1] for done in refusals)
    assert "certificate" in stranger
    assert over == "take_part: the server opened no WebSocket: HTTP/1.1 410 Gone"
    assert plain == "take_part: the address must begin with https://, or with http://localhost:"
    assert red == "take_part: the server opened no WebSocket: HTTP/1.1 404 ?[31mred"  # nothing that steers a terminal

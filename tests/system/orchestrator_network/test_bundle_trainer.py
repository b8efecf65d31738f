"""Clients of a network that train through the C library: on this machine, and on an emulated ARM64."""

from __future__ import annotations

import numpy as np
import pytest
from c_client_bundle import build_trainable, write
from click.testing import CliRunner
from loopback import NAMES, TEXTS, WORDS, Peer, config_of, first_state, in_one_process, serving

from edge.clients import arm64, c_client
from edge.errors import ClientError
from models.batches import Batches
from orchestrator.cli.commands import cli
from orchestrator.errors import ConfigError
from orchestrator.network.authority import make_keys
from orchestrator.network.bundle_trainer import bundle_trainer
from orchestrator.rounds.build import cut, draw_batches, load_trainer, model_size
from orchestrator.rounds.round import weights_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS = {"data.max_words": 6, "client.batch_size": 4, "client.clip_norm": 0.0}
CONFIG = config_of(**SETTINGS)
SIZE = model_size(CONFIG.model, WORDS.size)
WEIGHTS = first_state(CONFIG).weights


@pytest.fixture(scope="module", autouse=True)
def built():
    if c_client.why_not():
        pytest.skip(f"no C client: {c_client.why_not()}")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write(tmp_path_factory.mktemp("trainer") / "bundle", build_trainable(WEIGHTS, 6), SIZE)


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


def test_without_tensorflow_the_command_asks_for_a_bundle(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(cli, ["client", "--server", "localhost:1", "--client-id", "ann"])
    assert done.exit_code == 2
    assert "TensorFlow is not installed here: name a bundle by --bundle" in done.output

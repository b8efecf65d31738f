"""Weights that nobody trains: they take no slots, get no noise, and stay as they were to the last bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from private_round import charged, run, settings

from models.errors import RoleError
from models.weights import ModelSize, WeightShapes, flatten
from orchestrator.audit.word_recovery import require_readable
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError
from orchestrator.rounds.build import build_encoder, frozen_places, require_all_train, require_summable
from orchestrator.rounds.types import ServerState
from orchestrator.run.canary_clients import build_canaries
from orchestrator.settings.files import config_digest, read_config

SHAPES = ((3, 4), (5,), ())
SIZE = ModelSize(vocabulary_size=30, embedding_size=4, num_cells=6)


def encoder_of(**changes):
    return Encoder(**{"clip_norm": 2.0, "num_clients": 7, "max_weight": 100.0, "shapes": SHAPES, **changes})


def delta_of(rng):
    return tuple(np.asarray(rng.standard_normal(shape) * 0.1, np.float32) for shape in SHAPES)


def test_frozen_tensors_take_no_slots_and_have_a_mean_of_zero():
    whole, frozen = encoder_of(), encoder_of(frozen=frozenset({0}))
    rng = np.random.default_rng(5)
    delta = delta_of(rng)
    assert (frozen.dim, frozen.num_slots) == (whole.dim - 12, whole.num_slots - 12)
    assert frozen.l2_bound < whole.l2_bound  # what rounding can add, for fewer coordinates
    mean, weight_sum = frozen.decode(frozen.encode(delta, 10.0, rng), num_summed=1)
    assert weight_sum == 10.0
    assert [tensor.shape for tensor in mean] == list(SHAPES)
    assert not mean[0].any()
    for got, sent in zip(mean[1:], delta[1:]):
        np.testing.assert_allclose(got, sent, atol=frozen.step * frozen.max_weight / 10.0)


def test_what_is_frozen_does_not_count_into_the_clip_norm():
    encoder = encoder_of(clip_norm=1.0, frozen=frozenset({0}))
    delta = (np.full((3, 4), 100, np.float32), np.full(5, 0.4, np.float32), np.float32(0.0))  # 0.89 without the first
    mean, _ = encoder.decode(encoder.encode(delta, 1.0, np.random.default_rng(6)), num_summed=1)
    np.testing.assert_allclose(mean[1], 0.4, atol=encoder.step * encoder.max_weight)


def test_a_vector_without_weights_is_refused():
    with pytest.raises(ValueError, match="a weight that is not frozen"):
        encoder_of(frozen=frozenset({0, 1, 2}))


@pytest.mark.parametrize("mechanism", ["central", "matrix", "blt", "tree", "distributed", "local"])
def test_no_mechanism_noises_what_is_frozen_and_all_noise_the_rest(mechanism, tmp_path):
    config = settings(mechanism)
    shapes = ((40, 100), (2000,))

    encoder = replace(build_encoder(config, WeightShapes(shapes)), frozen=frozenset({0}))

    def train(weights, learning_rate, seed, all_batches):
        for batches in all_batches:
            yield {
                "delta": tuple(np.zeros(shape, np.float32) for shape in shapes),
                "num_examples": batches.num_examples,
                "num_tokens": batches.num_tokens,
                "loss_sum": 1.0,
                "is_finite": True,
            }

    start = tuple(np.full(shape, 0.1, np.float32) for shape in shapes)
    state, _ = run(config, tmp_path, 2, state=ServerState(0, start, 0), train=train, encoder=encoder)
    np.testing.assert_array_equal(state.weights[0], start[0])
    assert (state.weights[1] != start[1]).mean() > 0.9
    assert len(charged(tmp_path)) == 2


def test_a_server_s_step_that_shrinks_all_weights_leaves_the_frozen_ones(tmp_path):
    config = settings("none", privacy__noise_multiplier=0.0)
    shapes = ((4, 10), (2,))
    encoder = replace(build_encoder(config, WeightShapes(shapes)), frozen=frozenset({0}))

    def train(weights, learning_rate, seed, all_batches):
        zeros = tuple(np.zeros(shape, np.float32) for shape in shapes)
        counts = {"num_examples": 1, "num_tokens": 1, "loss_sum": 1.0, "is_finite": True}
        return ({"delta": zeros, **counts} for _ in all_batches)

    def decay(state, weights, mean, rate):
        return state, tuple(np.float32(0.9) * weight for weight in weights)

    start = (np.full(shapes[0], 1e-40, np.float32), np.ones(shapes[1], np.float32))
    state, _ = run(config, tmp_path, 2, ServerState(0, start, 0), train=train, encoder=encoder, update_server=decay)
    np.testing.assert_array_equal(state.weights[0], start[0])
    np.testing.assert_allclose(state.weights[1], 0.81, rtol=1e-6)


def test_a_weight_is_found_where_a_vector_holds_it():
    rng = np.random.default_rng(7)
    weights = tuple(rng.standard_normal(shape).astype(np.float32) for shape in SIZE.shapes)
    for count in range(len(weights)):
        for frozen in combinations(range(len(weights)), count):
            flat = flatten(weights, frozen)
            for place, name in enumerate(SIZE.names):
                held = np.zeros(0) if place in frozen else weights[place].ravel()
                np.testing.assert_array_equal(flat[SIZE.place_of(name, frozen)], held)


def test_a_canary_client_goes_where_people_go():
    config = read_config(
        overrides={
            "audit.canaries": 40,
            "model.start_from_word_counts": False,
            "client.weighting": "equal",
            "model.frozen": "embedding",
        }
    )
    canaries = build_canaries(config, SIZE)
    member = canaries.members[int(np.flatnonzero(canaries.included)[0])]
    update = canaries.update(member, 2.0)
    assert not update[0].any()
    assert np.linalg.norm(flatten(update)) == pytest.approx(2.02, rel=1e-4)  # clipped, as a person's longest is
    # What the frozen weights hold does not enter the products, by which the audit tells who is in.
    moved = (np.full_like(update[0], 9.0), *update[1:])
    products = canaries.inner_products(moved)
    assert products[canaries.members.index(member)] == pytest.approx(2.02, rel=1e-4)


def test_names_are_checked_before_anything_runs():
    config = read_config(overrides={"model.frozen": "embedding, kernel"})
    assert frozen_places(config.model, SIZE) == {0, 1}
    assert frozen_places(read_config().model, SIZE) == frozenset()
    for names, says in (
        ("embeding", "no weight 'embeding': its weights are embedding, kernel"),
        ("embedding,,bias", "no weight ''"),
        (" ", "no weight ''"),
        (", ".join(SIZE.names), "no weight is left to train"),
    ):
        config = read_config(overrides={"model.frozen": names})
        with pytest.raises(ConfigError, match=says):
            require_summable(config)
    with pytest.raises(ConfigError, match="not known here"):
        build_encoder(read_config(overrides={"model.frozen": "embedding"}), WeightShapes(SHAPES))


def test_clients_that_train_the_exported_model_or_send_all_of_it_are_refused():
    with pytest.raises(ConfigError, match="exported model trains all of its weights"):
        read_config(overrides={"model.frozen": "embedding", "client.runtime": "litert"})
    with pytest.raises(ConfigError, match="by fedkeys train"):
        require_all_train(read_config(overrides={"model.frozen": "embedding"}).model)
    require_all_train(read_config().model)


def test_the_attack_reads_no_weights_that_nobody_sends():
    for name in ("embedding", "output_bias"):
        with pytest.raises(RoleError, match=f"read {name}, which nobody sends"):
            require_readable(read_config(overrides={"model.frozen": name}).model)
    require_readable(read_config(overrides={"model.frozen": "kernel"}).model)


def test_runs_of_before_keep_their_digest():
    assert config_digest(read_config(overrides={"model.frozen": ""})) == config_digest(read_config())
    assert config_digest(read_config(overrides={"model.frozen": "bias"})) != config_digest(read_config())

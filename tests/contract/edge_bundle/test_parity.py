"""What every runtime of the exported files must do: train as the model in TensorFlow does, padding and all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_manifest import small_manifest

from edge.bundle import parity, runtimes
from edge.bundle.manifest import MANIFEST_FILE, to_json
from edge.clients.litert import TrainableModel, build_interpreter
from edge.clients.packing import Batch, cut_to_fit, packed
from edge.export.tflite import FIXED_SIGNATURE, STATELESS_FILE, TRAIN_FILE, build_files
from models.batches import Batches, build_batches
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize

pytestmark = pytest.mark.slow

SIZE, TIME, RATE, CLIP = ModelSize(vocabulary_size=120, embedding_size=16, num_cells=24), 8, 0.1, 0.5
FIXED = 16  # sentences of train_fixed, at most so many of which LiteRT.js trains on
assert runtimes.RUNTIMES, "no runtime to hold to the contract"


@pytest.fixture(scope="module")
def weights():
    from models.model import load_model

    return load_model(SIZE).initial_weights(0, embedding_range=0.5)


@pytest.fixture(scope="module")
def files(weights):
    """The three files, and as much of a manifest as the C client and the page's worker read."""
    content = build_files(SIZE, weights, TIME, CLIP, FIXED)
    manifest = small_manifest(content, SIZE, TIME, RATE, CLIP)
    return {**content, MANIFEST_FILE: to_json(manifest)}


def sentences(count: int, seed: int, longest: int = TIME + 2):
    rng = np.random.default_rng(seed)
    return [rng.integers(NUM_SPECIAL, SIZE.vocabulary_size, rng.integers(1, longest)) for _ in range(count)]


def in_tensorflow(weights, batches):
    """The packed step, which TFF trains with: delta and losses."""
    import tensorflow as tf

    from models.model import load_model
    from models.next_word import sgd_step

    step = tf.function(lambda w, *batch: sgd_step(load_model(SIZE), w, *batch, RATE, CLIP), reduce_retracing=True)
    after, losses = tuple(map(tf.constant, weights)), []
    for batch in zip(*batches):
        after, loss_sum, num_tokens = step(after, *map(tf.constant, batch))
        losses.append(float(loss_sum) / max(1.0, float(num_tokens)))
    return tuple(w - a.numpy() for w, a in zip(weights, after)), losses


@pytest.fixture(params=runtimes.RUNTIMES)
def runtime(request, files):
    runtime = runtimes.RUNTIMES[request.param]
    missing = runtime.why_not(files)
    if missing:
        pytest.skip(missing)
    return runtime


def measured(runtime, files, weights, batches) -> parity.RuntimeParity:
    delta, losses = runtime.train(files, SIZE, weights, batches, RATE)
    reference = parity.Reference("TensorFlow", *in_tensorflow(weights, batches), 0.0)
    return parity.compare(runtime.version(), SIZE.names, weights, delta, losses, reference)


def test_fifty_ragged_steps(runtime, files, weights):
    batches = build_batches(sentences(198, 0), batch_size=4, time=TIME)  # the last two rows are filling
    assert len(batches.tokens) == parity.STEPS
    got = measured(runtime, files, weights, batches)
    assert got.max_abs_diff <= parity.GATE
    assert max(map(abs, got.loss_drift)) <= 1e-4
    assert len(got.loss_drift) == parity.STEPS
    assert runtime.version()


def test_every_shape_of_the_file_trains(runtime, files, weights):
    shapes = TrainableModel(files[TRAIN_FILE], SIZE.names).shapes
    whole = build_batches(sentences(parity.STEPS * FIXED, 5), batch_size=FIXED, time=TIME)
    batches = cut_to_fit(whole, shapes)
    chosen = [packed(Batch(*batch), shapes) for batch in zip(*batches)]
    assert {found[0].signature for found in chosen if found} == {
        "train_10x8", "train_8x8", "train_6x8", "train_4x8", "train_2x8", "train_1x8", "train_1x4", "train_1x2",
    }  # fmt: skip
    assert measured(runtime, files, weights, batches).max_abs_diff <= parity.GATE


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_any_batch_size(runtime, files, weights, batch_size):
    batches = build_batches(sentences(2 * batch_size, 1), batch_size=batch_size, time=TIME)
    assert measured(runtime, files, weights, batches).max_abs_diff <= parity.GATE


def test_train_fixed_is_train_at_the_plan_s_batch_size(files, weights):
    """LiteRT.js refuses what has a free batch size."""
    details = build_interpreter(files[TRAIN_FILE]).get_signature_runner(FIXED_SIGNATURE).get_input_details()
    assert list(details["tokens"]["shape_signature"]) == [FIXED, TIME]
    batches = build_batches(sentences(2 * FIXED - 1, 3), batch_size=FIXED, time=TIME)  # the last row is filling
    free, fixed = TrainableModel(files[TRAIN_FILE], SIZE.names), build_interpreter(files[TRAIN_FILE])
    free.shapes = []
    train = fixed.get_signature_runner(FIXED_SIGNATURE)
    for tokens, targets, mask in zip(*batches):
        got = train(tokens=tokens, targets=targets, mask=mask, learning_rate=np.float32(RATE))
        assert (float(got["loss"]), float(got["num_tokens"])) == free.train_step(tokens, targets, mask, RATE)
    after = fixed.get_signature_runner("get_weights")()
    for name, expected in zip(SIZE.names, free.get_weights()):
        np.testing.assert_array_equal(after[name], expected)


def test_litert_js_is_left_out_of_a_bundle_from_before_train_fixed(files):
    old = {**files, TRAIN_FILE: files[STATELESS_FILE]}  # which has no such signature either
    why = "train.tflite has no train_fixed, which LiteRT.js needs: export the run again"
    assert runtimes.RUNTIMES["litert-js"].why_not(old) == why


def test_what_the_process_ran_before_changes_nothing(runtime, files, weights):
    batches = build_batches(sentences(32, 1), batch_size=16, time=TIME)
    delta, losses = runtime.train(files, SIZE, weights, batches, RATE)
    is_own_process = runtime in [runtimes.RUNTIMES[name] for name in ("c-client", "aarch64", "litert-js")]
    for _ in range(2 if is_own_process else 20):
        runtimes.RUNTIMES["litert"].train(files, SIZE, weights, batches, RATE)
        again, losses_again = runtime.train(files, SIZE, weights, batches, RATE)
        assert losses_again == losses
        for first, second in zip(delta, again):
            np.testing.assert_array_equal(first, second)


def test_a_ragged_batch_equals_the_same_sentences_one_by_one(runtime, files, weights):
    """The gradient of a batch is the mean of its sentences', weighted by their tokens; rows of padding are none."""
    many = sentences(6, 2)
    together = build_batches(many, batch_size=8, time=TIME)
    rate = 1e-3  # too small a step to be clipped differently
    delta, losses = runtime.train(files, SIZE, weights, together, rate)
    assert in_clip_range(weights, together)
    sums = [np.zeros_like(w, np.float64) for w in weights]
    loss_sum = 0.0
    for sentence in many:
        alone = build_batches([sentence], batch_size=1, time=TIME)
        if not in_clip_range(weights, alone):
            pytest.fail("the test's own sentences must not be clipped")
        own_delta, own_losses = runtime.train(files, SIZE, weights, alone, rate)
        loss_sum += own_losses[0] * alone.num_tokens
        for place, part in enumerate(own_delta):
            sums[place] += part.astype(np.float64) * alone.num_tokens
    assert losses[0] == pytest.approx(loss_sum / together.num_tokens, rel=1e-5)
    for mine, theirs in zip(delta, sums):
        np.testing.assert_allclose(mine, theirs / together.num_tokens, atol=5e-7)


def in_clip_range(weights, batches: Batches) -> bool:
    """True if the first batch's recurrent gradients are shorter than the clip norm."""
    from models.model import load_model

    gradients = load_model(SIZE).loss_and_gradients(weights, *(part[0] for part in batches)).gradients[1:4]
    return float(np.sqrt(sum(np.sum(np.square(g)) for g in gradients))) < CLIP


def test_what_stands_in_the_padding_does_not_matter(runtime, files, weights):
    batches = build_batches(sentences(8, 3), batch_size=4, time=TIME)
    noise = np.random.default_rng(0).integers(0, SIZE.vocabulary_size, batches.tokens.shape).astype(np.int32)
    noisy = Batches(*(np.where(batches.mask > 0, ids, noise) for ids in batches[:2]), batches.mask)
    mine, _ = runtime.train(files, SIZE, weights, batches, RATE)
    theirs, _ = runtime.train(files, SIZE, weights, noisy, RATE)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("emulated", [False, True])
def test_an_emulated_runtime_is_in_a_certificate_only_if_it_is_asked_for(files, weights, monkeypatch, emulated):
    litert = runtimes.RUNTIMES["litert"]
    rows = {"litert": litert, "phone": dataclasses.replace(litert, is_emulated=True)}
    monkeypatch.setattr(parity, "RUNTIMES", rows)
    batches = build_batches(sentences(4, 0), batch_size=4, time=TIME)
    reference = parity.Reference("TensorFlow", *in_tensorflow(weights, batches), 0.0)
    held_out = [np.arange(NUM_SPECIAL, NUM_SPECIAL + 5)]
    made = parity.certify(files, SIZE, weights, "0", batches, RATE, reference, held_out, emulated)
    assert set(made.runtimes) == ({"litert", "phone"} if emulated else {"litert"})
    assert set(made.skipped) == (set() if emulated else {"phone"})

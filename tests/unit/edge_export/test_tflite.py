"""What the export traces: the padded layout is the model that TFF trains; ops are read from the file itself."""

from __future__ import annotations

import hashlib

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf

from edge.clients.packing import Batch, packed
from edge.errors import ExportError
from edge.export import flatbuffer, tflite
from edge.export.shapes import TrainShape
from models import inference
from models.architectures import ARCHITECTURES
from models.batches import build_batches
from models.model import load_model
from models.next_word import sgd_step
from models.vocabulary import BOS, NUM_SPECIAL, UNK
from models.weights import ModelSize, weights_to_bytes

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")  # no wheel for Python 3.9

SIZE = ModelSize(vocabulary_size=23, embedding_size=6, num_cells=9)
MODEL = load_model(SIZE)
TIME = 5


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(3)
    start = MODEL.initial_weights(1, embedding_range=0.5)
    return tuple((w + rng.normal(0, 0.3, w.shape)).astype(np.float32) for w in start)


def ragged_batch(seed: int, longest: int = TIME, rows: int = 4):
    rng = np.random.default_rng([seed, longest])
    sentences = [rng.integers(NUM_SPECIAL, 23, rng.integers(1, longest + 2)) for _ in range(rows)]
    batches = build_batches(sentences, batch_size=rows + 1, time=longest)  # the last row is filling
    return batches.tokens[0], batches.targets[0], batches.mask[0]


def autodiff(weights, tokens, targets, mask):
    """Gradients of the mean loss by TensorFlow, in float64, from a forward pass written in the plainest way."""
    variables = [tf.Variable(w.astype(np.float64)) for w in weights]
    with tf.GradientTape() as tape:
        embedding, kernel, bias, projection, output_bias = variables
        hidden = tf.zeros([len(tokens), SIZE.embedding_size], tf.float64)
        cell = tf.zeros([len(tokens), SIZE.num_cells], tf.float64)
        total = tf.zeros([], tf.float64)
        for step in range(tokens.shape[1]):
            gates = tf.concat([tf.gather(embedding, tokens[:, step]), hidden], 1) @ kernel + bias
            forget, output, candidate = tf.split(gates, 3, 1)
            cell = tf.sigmoid(forget) * cell + (1 - tf.sigmoid(forget)) * tf.tanh(candidate)
            hidden = (tf.sigmoid(output) * tf.tanh(cell)) @ projection
            logits = hidden @ tf.transpose(embedding) + output_bias
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[:, step], logits)
            total += tf.reduce_sum(losses * mask[:, step].astype(np.float64))
        loss = total / mask.sum()
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, variables)]


@pytest.mark.parametrize("longest", range(1, TIME + 1))
def test_the_exported_gradient_equals_autodiff_for_every_length(weights, longest):
    batch = ragged_batch(0, longest)
    loss, expected = autodiff(weights, *batch)
    got = MODEL.loss_and_gradients(weights, *batch, padded=True)
    assert float(got.loss_sum) / float(got.num_tokens) == pytest.approx(loss, abs=1e-6)
    for name, mine, theirs in zip(SIZE.names, got.gradients, expected):
        np.testing.assert_allclose(mine, theirs, atol=1e-6, err_msg=name)


def test_the_exported_step_equals_the_one_that_tff_trains_with(weights):
    for seed in range(5):
        batch = ragged_batch(seed)
        mine = sgd_step(MODEL, weights, *batch, 0.5, clip_norm=0.3, padded=True)
        theirs = sgd_step(MODEL, weights, *batch, 0.5, clip_norm=0.3)
        for a, b in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs)):
            np.testing.assert_allclose(a, b, atol=2e-6)


def test_padding_has_no_effect_on_the_exported_step(weights):
    tokens, targets, mask = ragged_batch(6)
    noise = np.random.default_rng(0).integers(0, 23, tokens.shape)
    noisy = [np.where(mask > 0, ids, noise).astype(np.int32) for ids in (tokens, targets)]
    mine = MODEL.loss_and_gradients(weights, tokens, targets, mask, padded=True)
    theirs = MODEL.loss_and_gradients(weights, *noisy, mask, padded=True)
    for a, b in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs)):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_the_exported_metric_equals_the_one_of_evaluation(weights):
    tokens, targets, mask = ragged_batch(7, rows=40)
    targets = np.where((targets == 5) & (mask > 0), UNK, targets)  # some unknown words
    mine = inference.recall_sums(MODEL, weights, tokens, targets, mask, 23, padded=True)
    theirs = inference.recall_sums(MODEL, weights, tokens, targets, mask, 23)
    assert [float(v) for v in mine] == pytest.approx([float(v) for v in theirs], rel=1e-6)
    assert float(theirs.positions) > 20
    assert float(theirs.oov) > 0


def test_key_strokes_equal_the_whole_sentence(weights):
    words = [BOS, 7, 22, 4, 11]
    tokens, mask = np.array([words], np.int32), np.ones((1, len(words)), np.float32)
    whole = inference.next_word_probabilities(MODEL, weights, tokens, mask)[0].numpy()
    state = SIZE.start_state()
    for word, expected in zip(words, whole):
        stroke = inference.key_stroke(MODEL, weights, np.array([word], np.int32), state)
        state = stroke.state
        best = NUM_SPECIAL + np.argsort(-expected[NUM_SPECIAL:])[:3]
        assert stroke.ids.numpy()[0].tolist() == best.tolist()
        np.testing.assert_allclose(stroke.probabilities[0], expected[best], atol=1e-6)


@pytest.mark.skipif(not tf.__version__.startswith("2.14."), reason="another TensorFlow lowers to other ops")
def test_the_default_kind_is_exported_to_the_ops_that_it_always_was():
    size = ModelSize(60, 8, 12)
    weights = load_model(size).initial_weights(5, np.arange(60.0), 0.3)
    assert hashlib.sha256(weights_to_bytes(weights)).hexdigest()[:16] == "5b0aa95658c82e8d"
    files = tflite.build_files(size, weights, 6, 0.3, 4, shapes=())
    ops = {name: sorted(flatbuffer.ops_of(content).items()) for name, content in files.items()}
    listed = {name: str([(graph, sorted(counts.items())) for graph, counts in found]) for name, found in ops.items()}
    assert {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in listed.items()} == {
        "train.tflite": "c926320576032358",
        "train_stateless.tflite": "b33c84541113ced2",
        "infer.tflite": "99a233b0ece3ca20",
    }


@pytest.fixture(scope="module")
def files(weights):
    return tflite.build_files(SIZE, weights, TIME, 1.0, 4)


def test_a_file_holds_its_weights_once_however_many_shapes_it_has(weights, files):
    for name, weight in zip(SIZE.names, weights):
        assert files[tflite.TRAIN_FILE].count(weight.tobytes()) == 1, name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sentences_that_share_a_row_train_as_in_rows_of_their_own(kind):
    model = load_model(ModelSize(23, 8, 9, kind))
    weights = model.initial_weights(2, embedding_range=0.5)
    rng = np.random.default_rng(8)
    sentences = [rng.integers(NUM_SPECIAL, 23, length) for length in (9, 4, 4, 3, 1, 0)]
    batches = build_batches(sentences, batch_size=6, time=12)
    own = tuple(part[0] for part in batches)
    shape, shared = packed(Batch(*own), [TrainShape(3, 12)])
    assert (shared.tokens == BOS).sum(1).tolist() == [2, 3, 1]
    assert shape == (3, 12)
    mine = sgd_step(model, weights, *shared, 0.5, clip_norm=0.3, padded=True, shares_rows=True)
    theirs = sgd_step(model, weights, *own, 0.5, clip_norm=0.3)
    for a, b in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs)):
        np.testing.assert_allclose(a, b, atol=2e-6)
    mixed = sgd_step(model, weights, *shared, 0.5, clip_norm=0.3, padded=True)
    assert max(np.abs(a - b).max() for a, b in zip(mixed[0], theirs[0])) > 1e-4  # where they are not kept apart


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_exported(weights, bad):
    broken = [w.copy() for w in weights]
    broken[3][2, 1] = bad
    with pytest.raises(ExportError, match=r"not finite: 1 of 54 values of projection"):
        tflite.build_files(SIZE, tuple(broken), TIME, 0.0, 4)


def test_a_model_with_fewer_words_than_a_phone_shows_is_not_exported():
    tiny = load_model(ModelSize(6, 2, 3)).initial_weights(0)
    with pytest.raises(ExportError, match="has 2 words and a phone shows 3"):
        tflite.build_files(ModelSize(6, 2, 3), tiny, TIME, 0.0, 4)


def file_with_ops(*ops) -> bytes:
    """A TFLite file of one subgraph; an op is a builtin's code, or the name of a custom op."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.operatorCodes, graph.operators, graph.tensors = 3, [], [], []
    for op in ops:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = schema.BuiltinOperator.CUSTOM if isinstance(op, str) else op
        code.customCode = op if isinstance(op, str) else None
        operator.opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    model.subgraphs, model.buffers = [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_ops_are_read_from_the_file():
    builtin = file_with_ops(schema.BuiltinOperator.ADD, schema.BuiltinOperator.SOFTMAX)
    assert flatbuffer.ops_of(builtin) == {"0 ": {"ADD": 1, "SOFTMAX": 1}}
    assert flatbuffer.custom_ops(builtin) == []


def test_no_op_takes_a_shape_that_another_computes(files):
    """LiteRT 2.3 with XNNPACK now and then trained wrongly with such a file: docs/adr/0003."""
    for content in files.values():
        for counts in flatbuffer.ops_of(content).values():
            assert not {"SHAPE", "FILL", "RANGE", "BROADCAST_TO"} & set(counts)


def test_flex_and_custom_ops_are_refused(weights, monkeypatch):
    content = file_with_ops(schema.BuiltinOperator.ADD, "FlexTensorListReserve", "MyOwn")
    assert flatbuffer.custom_ops(content) == ["CUSTOM FlexTensorListReserve", "CUSTOM MyOwn"]
    monkeypatch.setattr(tflite, "build_infer_file", lambda *args: content)
    monkeypatch.setattr(tflite, "_build_train_file", lambda *args: file_with_ops(schema.BuiltinOperator.ADD))
    monkeypatch.setattr(tflite, "_build_stateless_file", lambda *args: file_with_ops(schema.BuiltinOperator.ADD))
    with pytest.raises(ExportError, match=r"infer\.tflite needs ops .* FlexTensorListReserve, CUSTOM MyOwn"):
        tflite.build_files(SIZE, weights, TIME, 0.0, 4)


def test_what_is_no_tflite_file_is_told():
    with pytest.raises(ValueError, match="must be a TFLite file"):
        flatbuffer.ops_of(b"PK\x03\x04 something else")

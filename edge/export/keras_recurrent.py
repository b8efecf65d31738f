"""Recurrent layers, unrolled over the static number of positions, and the wrappers of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from edge.export import keras_gradients as gradients
from edge.export.keras_layers import RULES, Call, Rule, sizes

Step = Callable[[tf.Tensor, tuple[tf.Tensor, ...]], tuple[tf.Tensor, ...]]  # input part, states -> states, output first


def _steps(call: Call, x: tf.Tensor) -> list[tf.Tensor]:
    """Returns what the input gives to the gates, a tensor [batch, gates] for each position, in running order."""
    layer = call.layer
    for setting in ("stateful", "return_state"):
        if getattr(layer, setting):
            raise call.refuse(f"build it with {setting}=False")
    if layer.time_major:
        raise call.refuse("build it with time_major=False")
    from_input = call.weights.times(x, layer.cell.kernel)
    if layer.use_bias:
        bias = call.weights(layer.cell.bias)
        from_input += bias if len(bias.shape) == 1 else tf.unstack(bias)[0]
    steps = tf.unstack(from_input, axis=1)
    return steps[::-1] if layer.go_backwards else steps


def _run(call: Call, x: tf.Tensor, step: Step, num_states: int) -> tf.Tensor:
    """Runs the recurrence from zero states; returns the last output [batch, units], or all [batch, time, units]."""
    batch = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    states = (tf.zeros([batch, call.layer.units]),) * num_states
    outputs = []
    for from_input in _steps(call, x):
        states = step(from_input, states)
        outputs.append(states[0])
    return tf.stack(outputs, 1) if call.layer.return_sequences else outputs[-1]


def _simple_rnn(call: Call, x: tf.Tensor) -> tf.Tensor:
    kernel = call.weights(call.layer.cell.recurrent_kernel)

    def step(from_input: tf.Tensor, states: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return (call.activate(from_input + gradients.product(states[0], kernel)),)

    return _run(call, x, step, 1)


def _lstm(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer = call.layer
    kernel = call.weights(layer.cell.recurrent_kernel)

    def step(from_input: tf.Tensor, states: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        hidden, cell = states
        gates = tf.split(from_input + gradients.product(hidden, kernel), 4, 1)
        enter, forget, leave = (call.activate(gates[i], layer.recurrent_activation) for i in (0, 1, 3))
        cell = forget * cell + enter * call.activate(gates[2])
        return leave * call.activate(cell), cell

    return _run(call, x, step, 2)


def _gru(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer, units = call.layer, call.layer.units
    kernel = call.weights(layer.cell.recurrent_kernel)
    bias = tf.unstack(call.weights(layer.cell.bias))[1] if layer.use_bias and layer.reset_after else None
    gates_kernel, candidate_kernel = kernel, kernel
    if not layer.reset_after:
        gates_kernel, candidate_kernel = tf.split(kernel, [2 * units, units], 1)

    def step(from_input: tf.Tensor, states: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        hidden = states[0]
        into = tf.split(from_input, 3, 1)
        inner = gradients.product(hidden, gates_kernel)
        if bias is not None:
            inner += bias
        within = tf.split(inner, inner.shape[1] // units, 1)
        update, reset = (call.activate(into[i] + within[i], layer.recurrent_activation) for i in (0, 1))
        recurrent = reset * within[2] if layer.reset_after else gradients.product(reset * hidden, candidate_kernel)
        candidate = call.activate(into[2] + recurrent)
        return (candidate + update * (hidden - candidate),)

    return _run(call, x, step, 1)


_RECURRENT: dict[str, Rule] = {"SimpleRNN": _simple_rnn, "GRU": _gru, "LSTM": _lstm}


def _bidirectional(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer = call.layer
    rule = _RECURRENT.get(type(layer.forward_layer).__name__)
    if rule is None or layer.merge_mode not in ("concat", "sum", "mul", "ave"):
        raise call.refuse("it must hold SimpleRNN, GRU or LSTM, with a merge_mode")
    forward = rule(replace(call, layer=layer.forward_layer), x)
    backward = rule(replace(call, layer=layer.backward_layer), x)
    if layer.return_sequences:
        backward = tf.stack(tf.unstack(backward, axis=1)[::-1], 1)
    if layer.merge_mode == "concat":
        return tf.concat([forward, backward], -1)
    if layer.merge_mode == "mul":
        return forward * backward
    return (forward + backward) * (0.5 if layer.merge_mode == "ave" else 1.0)


def _time_distributed(call: Call, x: tf.Tensor) -> tf.Tensor:
    inner = call.layer.layer
    if type(inner).__name__ != "Dense":
        raise call.refuse("it must hold Dense")
    return RULES["Dense"](replace(call, layer=inner), x)


def _flat_size(x: tf.Tensor) -> int:
    """Returns how many rows batch and time make together; -1 if the batch is free."""
    return -1 if x.shape[0] is None else x.shape[0] * x.shape[1]


def _multi_head_attention(
    call: Call, query: tf.Tensor, value: tf.Tensor, key: tf.Tensor = None, use_causal_mask: bool = False
) -> tf.Tensor:
    """Attends over one axis. Source: Vaswani et al. 2017, section 3.2; weights and order of ops as Keras has them."""
    layer, weights = call.layer, call.weights
    if len(query.shape) != 3 or len(value.shape) != 3:
        raise call.refuse("query and value must have the shape [batch, time, width]")
    key = value if key is None else key
    heads, size = layer._num_heads, layer._key_dim

    def project(x: tf.Tensor, dense: tf.keras.layers.Layer) -> tf.Tensor:
        """Returns [batch, heads, time, size]."""
        kernel = weights(dense.kernel)  # [width, heads, size]
        width, out = kernel.shape[0], kernel.shape[1] * kernel.shape[2]
        y = gradients.product(tf.reshape(x, [_flat_size(x), width]), tf.reshape(kernel, [width, out]))
        if layer._use_bias:
            y += tf.reshape(weights(dense.bias), [out])
        return tf.transpose(tf.reshape(y, [*sizes(x)[:2], *kernel.shape[1:]]), [0, 2, 1, 3])

    queries = project(query, layer._query_dense) * (float(size) ** -0.5)
    keys, values = project(key, layer._key_dense), project(value, layer._value_dense)
    scores = tf.matmul(queries, keys, transpose_b=True)
    if use_causal_mask:
        ones = tf.ones(scores.shape[2:])
        scores += (1.0 - tf.linalg.band_part(ones, -1, 0)) * -1e9
    mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), values), [0, 2, 1, 3])
    kernel = weights(layer._output_dense.kernel)  # [heads, size, width]
    inner = heads * mixed.shape[3]
    y = gradients.product(tf.reshape(mixed, [_flat_size(mixed), inner]), tf.reshape(kernel, [inner, kernel.shape[-1]]))
    if layer._use_bias:
        y += weights(layer._output_dense.bias)
    return tf.reshape(y, [*sizes(mixed)[:2], kernel.shape[-1]])


RULES_OF_SEQUENCES: dict[str, Rule] = {
    **_RECURRENT,
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "MultiHeadAttention": _multi_head_attention,
}

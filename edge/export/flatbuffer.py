"""TFLite files as the flatbuffers they are: their ops, int8 matrices, copies of signatures. Imports no TensorFlow."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorT


def ops_of(content: bytes) -> dict[str, dict[str, int]]:
    """Returns {subgraph: {op: how often}} of a TFLite file, read from its flatbuffer; a custom op is "CUSTOM name".

    Flex ops, which carry TensorFlow's kernels into a file, are custom ops whose name begins with Flex.

    Raises:
      ValueError: `content` is no TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError(f"content must be a TFLite file, got {len(content)} bytes that begin with {content[:8]!r}")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAsModel(content, 0)
    codes = []
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        # Old files hold small codes in one byte, newer ones all of them in four; the larger is the code.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = builtin == schema.BuiltinOperator.CUSTOM
        codes.append(f"CUSTOM {code.CustomCode().decode()}" if custom else names[builtin])
    ops: dict[str, dict[str, int]] = {}
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        counts = ops.setdefault(f"{i} {(graph.Name() or b'').decode()}", {})
        for j in range(graph.OperatorsLength()):
            op = codes[graph.Operators(j).OpcodeIndex()]
            counts[op] = counts.get(op, 0) + 1
    return ops


def custom_ops(content: bytes) -> list[str]:
    """Returns the custom ops (Flex ops among them) of a TFLite file, sorted; empty is what a phone wants."""
    return sorted({op for counts in ops_of(content).values() for op in counts if op.startswith("CUSTOM")})


def _read(content: bytes) -> ModelT:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _written(model: ModelT, size: int) -> bytes:
    """Returns the model as a file, of about `size` bytes."""
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_int8_matrices(content: bytes) -> bytes:
    """Returns the file with each constant float32 matrix as int8 and a DEQUANTIZE before it, which runs once, at load.

    The converter's own int8 has one scale a matrix and rounds the activations too, and changes more predictions
    (docs/adr/0003). Here each column has its scale: max |w| / 127. Columns are inputs, of which there are few, so that
    the scales take no room.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _read(content)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 5  # the first that takes a scale per column
    model.operatorCodes.append(code)
    dequantise = []
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if data is None or len(tensor.shape) != 2 or tensor.type != schema.TensorType.FLOAT32:
            continue
        matrix = np.frombuffer(np.asarray(data, np.uint8).tobytes(), "<f4").reshape(tensor.shape)
        scale = (np.abs(matrix).max(0) / 127).astype(np.float32)
        scale[scale == 0] = 1.0
        small = schema.TensorT()
        small.name, small.shape, small.type = tensor.name + b"/int8", tensor.shape, schema.TensorType.INT8
        small.quantization = schema.QuantizationParametersT()
        small.quantization.scale, small.quantization.quantizedDimension = scale, 1
        small.quantization.zeroPoint = np.zeros(len(scale), np.int64)
        small.buffer, tensor.buffer = tensor.buffer, 0  # buffer 0 is the empty one: the float tensor is computed now
        model.buffers[small.buffer].data = np.frombuffer(np.round(matrix / scale).astype(np.int8).tobytes(), np.uint8)
        graph.tensors.append(small)
        op = schema.OperatorT()
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.inputs, op.outputs = np.array([len(graph.tensors) - 1], np.int32), np.array([index], np.int32)
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()
        dequantise.append(op)
    graph.operators = dequantise + graph.operators
    return _written(model, len(content))


def with_fixed_rows(content: bytes, copies: Mapping[str, Mapping[str, int]]) -> bytes:
    """Returns the file with copies of signatures whose inputs have a free number of rows, each with a fixed number.

    A copy takes a moment and has the same constants; tracing and converting each would take seconds and megabytes.

    Args:
      content: the file.
      copies: {signature: {name of a copy: its rows}}; the copies stand in the signature's place.
    """
    if not copies:
        return content
    model = _read(content)
    for signature, rows_by_name in copies.items():
        original = next(found for found in model.signatureDefs if found.signatureKey == signature.encode())
        model.signatureDefs.remove(original)
        graph, is_in_place = model.subgraphs[original.subgraphIndex], True
        for name, rows in rows_by_name.items():
            own, definition = copy.copy(graph), copy.copy(original)
            own.tensors = list(graph.tensors)
            for index in graph.inputs:
                own.tensors[index] = _with_rows(graph.tensors[index], rows)
            definition.signatureKey = name.encode()
            if is_in_place:  # so that nothing else moves
                model.subgraphs[original.subgraphIndex], is_in_place = own, False
            else:
                definition.subgraphIndex = len(model.subgraphs)
                model.subgraphs.append(own)
            model.signatureDefs.append(definition)
    return _written(model, len(content))


def _with_rows(tensor: TensorT, rows: int) -> TensorT:
    if tensor.shapeSignature is None or not len(tensor.shapeSignature):  # the learning rate
        return tensor
    fixed = copy.copy(tensor)
    fixed.shape, fixed.shapeSignature = np.array([rows, *tensor.shape[1:]], np.int32), None
    return fixed

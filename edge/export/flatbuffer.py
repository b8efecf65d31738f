"""TFLite files as the flatbuffers they are: which ops they need, and matrices as int8. Imports no TensorFlow."""

from __future__ import annotations

import numpy as np


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


def with_int8_matrices(content: bytes) -> bytes:
    """Returns the file with each constant float32 matrix as int8 and a DEQUANTIZE before it, which runs once, at load.

    The converter's own int8 has one scale a matrix and rounds the activations too, and changes more predictions
    (docs/adr/0003). Here each column has its scale: max |w| / 127. Columns are inputs, of which there are few, so that
    the scales take no room.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
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
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())

"""Which of Keras's layers, activations and losses can be exported: what docs/keras.md lists, made from here.

Imports no TensorFlow. How a layer is computed is in edge.export.keras_layers, keras_images and keras_recurrent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRow:
    """What holds of a layer.

    Attributes:
      note: what a person should know, in a few words; may be empty.
      why_not: why it can't be exported; "" if it can.
      has_weights: whether it has weights that train.
    """

    note: str = ""
    why_not: str = ""
    has_weights: bool = False


_FROZEN = "trains gamma and beta; mean and variance stay as they are in the file"
_IDLE = "has no effect: the exported step drops nothing"
_UNROLLED = "unrolled over the static number of positions; its weights train"
_RANDOM = "it is random, and a TFLite file has no source of randomness that is the same everywhere"
_LATER = "nobody has written its gradient in builtin ops yet"

LAYERS: dict[str, LayerRow] = {
    "InputLayer": LayerRow("float32; int32 where only Embedding layers read it"),
    "Dense": LayerRow(has_weights=True),
    "Embedding": LayerRow("without mask_zero", has_weights=True),
    "Conv1D": LayerRow("without dilation or groups, not causal", has_weights=True),
    "Conv2D": LayerRow("without dilation or groups", has_weights=True),
    "DepthwiseConv2D": LayerRow("depth_multiplier 1, without dilation", has_weights=True),
    "SeparableConv2D": LayerRow("depth_multiplier 1, without dilation", has_weights=True),
    "MaxPooling1D": LayerRow(),
    "MaxPooling2D": LayerRow(),
    "AveragePooling1D": LayerRow(),
    "AveragePooling2D": LayerRow(),
    "GlobalAveragePooling1D": LayerRow(),
    "GlobalAveragePooling2D": LayerRow(),
    "GlobalMaxPooling1D": LayerRow(),
    "GlobalMaxPooling2D": LayerRow(),
    "ZeroPadding1D": LayerRow(),
    "ZeroPadding2D": LayerRow(),
    "BatchNormalization": LayerRow(_FROZEN, has_weights=True),
    "LayerNormalization": LayerRow("over the last axis", has_weights=True),
    "SimpleRNN": LayerRow(_UNROLLED, has_weights=True),
    "GRU": LayerRow(_UNROLLED, has_weights=True),
    "LSTM": LayerRow(_UNROLLED, has_weights=True),
    "Bidirectional": LayerRow("of SimpleRNN, GRU or LSTM", has_weights=True),
    "TimeDistributed": LayerRow("of Dense", has_weights=True),
    "MultiHeadAttention": LayerRow("over one axis; use_causal_mask works", has_weights=True),
    "Dropout": LayerRow(_IDLE),
    "SpatialDropout1D": LayerRow(_IDLE),
    "SpatialDropout2D": LayerRow(_IDLE),
    "GaussianNoise": LayerRow(_IDLE),
    "GaussianDropout": LayerRow(_IDLE),
    "ActivityRegularization": LayerRow(why_not="its penalty is not part of the exported loss"),
    "Activation": LayerRow(),
    "ReLU": LayerRow("without threshold; max_value None or 6"),
    "LeakyReLU": LayerRow(),
    "ELU": LayerRow("alpha 1"),
    "Softmax": LayerRow("over the last axis"),
    "Flatten": LayerRow(),
    "Reshape": LayerRow(),
    "Permute": LayerRow(),
    "RepeatVector": LayerRow(),
    "Rescaling": LayerRow("by one number"),
    "Add": LayerRow(),
    "Subtract": LayerRow(),
    "Multiply": LayerRow(),
    "Average": LayerRow(),
    "Concatenate": LayerRow(),
    "Conv2DTranspose": LayerRow(why_not=_LATER),
    "Conv3D": LayerRow(why_not=_LATER),
    "SeparableConv1D": LayerRow(why_not=_LATER),
    "DepthwiseConv1D": LayerRow(why_not=_LATER),
    "UpSampling2D": LayerRow(why_not=_LATER),
    "PReLU": LayerRow(why_not=_LATER),
    "GroupNormalization": LayerRow(why_not=_LATER),
    "UnitNormalization": LayerRow(why_not=_LATER),
    "ConvLSTM2D": LayerRow(why_not=_LATER),
    "Attention": LayerRow(why_not="use MultiHeadAttention"),
    "Masking": LayerRow(why_not="masks of positions do not travel through the exported graph"),
    "RandomFlip": LayerRow(why_not=_RANDOM),
    "RandomRotation": LayerRow(why_not=_RANDOM),
    "TextVectorization": LayerRow(why_not="TFLite has no builtin for text: turn text into ids before"),
    "StringLookup": LayerRow(why_not="TFLite has no builtin for text: turn text into ids before"),
    "Lambda": LayerRow(why_not="it is code in the model, and a file's code is never run"),
    "TFOpLambda": LayerRow(why_not="it is code in the model (x + y in place of Add()), and a file's code is never run"),
    "Functional": LayerRow(why_not="it is a model inside of the model: build it from its layers"),
    "Sequential": LayerRow(why_not="it is a model inside of the model: build it from its layers"),
}

ACTIVATIONS: dict[str, str] = {
    "linear": "",
    "relu": "gradient written in builtin ops",
    "relu6": "gradient written in builtin ops",
    "elu": "gradient written in builtin ops",
    "gelu": "by its polynomial, within 1e-6",
    "selu": "",
    "sigmoid": "",
    "hard_sigmoid": "",
    "tanh": "",
    "softmax": "over the last axis",
    "softplus": "",
    "softsign": "",
    "swish": "",
    "silu": "",
    "exponential": "",
}

LOSSES: dict[str, str] = {
    "sparse_categorical_crossentropy": "targets int32; the last layer is softmax, or from_logits=True",
    "categorical_crossentropy": "targets float32, one share a class; as above",
    "binary_crossentropy": "targets float32; the last layer is sigmoid, or from_logits=True",
    "mean_squared_error": "targets float32",
    "mean_absolute_error": "targets float32",
}

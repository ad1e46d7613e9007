"""What Keras calls the layers that have no weights, by PyTorch's module or function."""

from __future__ import annotations

import re
from collections.abc import Mapping

ACTIVATION = "Activation"

# PyTorch's functions, and the activations that they and its modules compute, by Keras's names.
_ACTIVATIONS = {
    "relu": "relu",
    "relu_": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "softplus": "softplus",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "hardsigmoid": "hard_sigmoid",
    "tanh": "tanh",
    "tanh_": "tanh",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hard_sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}

FUNCTIONS: Mapping[str, str] = {
    **{name: ACTIVATION for name in _ACTIVATIONS if name.islower()},
    "max_pool2d": "MaxPooling2D",
    "max_pool2d_with_indices": "MaxPooling2D",
    "avg_pool2d": "AveragePooling2D",
    "adaptive_avg_pool2d": "GlobalAveragePooling2D",
    "adaptive_max_pool2d": "GlobalMaxPooling2D",
    "mean": "GlobalAveragePooling2D",
    "interpolate": "UpSampling2D",
    "cat": "Concatenate",
    "concat": "Concatenate",
    "concatenate": "Concatenate",
    "add": "Add",
    "add_": "Add",
    "__add__": "Add",
    "__iadd__": "Add",
    "flatten": "Flatten",
    "dropout": "Dropout",
    "feature_dropout": "SpatialDropout2D",
    "conv2d": "Conv2D",
    "linear": "Dense",
}

_MODULES = {
    **{name: ACTIVATION for name in _ACTIVATIONS if not name.islower()},
    "MaxPool2d": "MaxPooling2D",
    "AvgPool2d": "AveragePooling2D",
    "AdaptiveAvgPool2d": "GlobalAveragePooling2D",
    "AdaptiveMaxPool2d": "GlobalMaxPooling2D",
    "Upsample": "UpSampling2D",
    "UpsamplingNearest2d": "UpSampling2D",
    "ZeroPad2d": "ZeroPadding2D",
    "Dropout2d": "SpatialDropout2D",
    "SamplingDropout": "Dropout",
}


def kind_of(module: str) -> str:
    """Keras's class for a PyTorch module's class without weights; its own where Keras has none."""
    return _MODULES.get(module, module)


def activation(what: str) -> str:
    """Keras's name of the activation that a module or a function computes."""
    return _ACTIVATIONS.get(what, what.lower())


def automatic(kind: str) -> str:
    """The name that Keras gives a layer of this class before it numbers it: max_pooling2d for MaxPooling2D."""
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()

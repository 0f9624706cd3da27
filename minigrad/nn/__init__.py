"""Modules: named parameters, and a `forward` that says what to do with them.

module.py       Module and Parameter
state.py        what `load_state_dict` takes
layers.py       Linear, Embedding, norms, Dropout, Flatten
activations.py  elementwise functions as modules
attention.py    MultiheadAttention
convolution.py  convolutions and pooling
containers.py   Sequential, ModuleList, ModuleDict
losses.py       losses as modules
functional.py   `minigrad.functional`, by PyTorch's name
utils.py        clipping of gradients
"""

from minigrad.nn import utils
from minigrad.nn.activations import (
    ELU,
    GELU,
    Hardtanh,
    Identity,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigrad.nn.attention import (
    MultiheadAttention,
)
from minigrad.nn.containers import (
    ModuleDict,
    ModuleList,
    Sequential,
)
from minigrad.nn.convolution import (
    AvgPool1d,
    AvgPool2d,
    Conv1d,
    Conv2d,
    MaxPool1d,
    MaxPool2d,
)
from minigrad.nn.layers import (
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    RMSNorm,
)
from minigrad.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from minigrad.nn.module import (
    Module,
    Parameter,
)

__all__ = [
    "ELU",
    "GELU",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "utils",
]

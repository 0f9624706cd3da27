"""What test_opinfo.py asks of PyTorch's samples at present. An operator that is finished leaves UNFINISHED."""

#: dtype -> the part of the calls that must be equal, without those that the table of ambiguous calls refuses
LEAST_EQUAL = {"float64": 0.10, "float32": 0.10, "float16 elementwise": 0.35}

#: operators of which some calls still end in another result, in an unclear error, or in a name that is missing
UNFINISHED = frozenset({
    "__rand__", "__rmod__", "__ror__", "__rxor__", "arange", "argmax", "argmin", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "chunk", "clamp", "clone", "cos", "cumsum", "dot", "einsum", "eq", "expm1", "eye",
    "flip", "floor_divide", "full", "gather", "ge", "gt", "le", "log1p", "log_softmax", "logsumexp", "lt",
    "masked_fill", "max binary", "max reduction_with_dim", "maximum", "min binary", "min reduction_with_dim",
    "minimum", "movedim", "ne", "nn.functional.avg_pool1d", "nn.functional.avg_pool2d",
    "nn.functional.binary_cross_entropy_with_logits", "nn.functional.conv1d", "nn.functional.conv2d",
    "nn.functional.cross_entropy", "nn.functional.elu", "nn.functional.embedding", "nn.functional.gelu",
    "nn.functional.hardtanh", "nn.functional.kl_div", "nn.functional.l1_loss", "nn.functional.layer_norm",
    "nn.functional.leaky_relu", "nn.functional.linear", "nn.functional.linear_cross_entropy",
    "nn.functional.linear_cross_entropy chunked", "nn.functional.max_pool1d", "nn.functional.max_pool2d",
    "nn.functional.mse_loss", "nn.functional.nll_loss", "nn.functional.one_hot", "nn.functional.pad circular",
    "nn.functional.pad constant", "nn.functional.pad reflect", "nn.functional.pad replicate",
    "nn.functional.pad replicate_negative", "nn.functional.rms_norm", "nn.functional.silu", "nn.functional.softplus",
    "norm", "norm fro", "norm inf", "norm nuc", "ones", "outer", "pow", "prod", "randn", "ravel", "remainder",
    "repeat", "roll", "rsqrt", "sigmoid", "sin", "softmax", "sort", "split", "split list_args", "square", "squeeze",
    "squeeze multiple", "std", "std unbiased", "take_along_dim", "tile", "topk", "tril", "triu", "unbind", "var",
    "var unbiased", "zeros",
})  # fmt: skip

#: functions of which some calls with NumPy's keywords do not give NumPy's values
UNFINISHED_BESIDE_NUMPY = frozenset({
    "amax", "amin", "clip", "concatenate", "divide", "exp", "log", "max", "mean", "min", "reshape", "split", "sqrt",
    "stack", "sum", "tanh", "true_divide", "var",
})  # fmt: skip

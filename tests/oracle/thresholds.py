"""What test_opinfo.py asks of PyTorch's samples at present. An operator that is finished leaves UNFINISHED."""

#: dtype -> the part of the calls that must be equal, without those that the table of ambiguous calls refuses
LEAST_EQUAL = {"float64": 0.10, "float32": 0.10, "float16 elementwise": 0.30}

#: operators of which some calls still end in another result, in an unclear error, or in a name that is missing
UNFINISHED = frozenset({
    "__rand__", "__rmod__", "__ror__", "__rxor__", "all", "allclose", "any", "arange", "argmax", "argmin", "argsort",
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "bmm", "bmm triton_optimized", "ceil", "chunk",
    "clamp", "clone", "cos", "count_nonzero", "cumsum", "diagonal", "dot", "einsum", "eq", "exp2", "expand_as",
    "expm1", "eye", "flip", "floor", "floor_divide", "full", "gather", "ge", "gt", "hstack", "index_select", "inner",
    "isclose", "isfinite", "isinf", "isnan", "le", "log10", "log1p", "log2", "log_softmax", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logsumexp", "lt", "masked_fill", "masked_select", "max binary",
    "max reduction_with_dim", "min binary", "min reduction_with_dim", "mm", "movedim", "mv", "ne",
    "nn.functional.avg_pool1d", "nn.functional.avg_pool2d", "nn.functional.binary_cross_entropy_with_logits",
    "nn.functional.celu", "nn.functional.conv1d", "nn.functional.conv2d", "nn.functional.cross_entropy",
    "nn.functional.elu", "nn.functional.embedding", "nn.functional.gelu", "nn.functional.hardtanh",
    "nn.functional.kl_div", "nn.functional.l1_loss", "nn.functional.layer_norm", "nn.functional.leaky_relu",
    "nn.functional.linear", "nn.functional.linear_cross_entropy", "nn.functional.linear_cross_entropy chunked",
    "nn.functional.logsigmoid", "nn.functional.max_pool1d", "nn.functional.max_pool2d", "nn.functional.mse_loss",
    "nn.functional.nll_loss", "nn.functional.one_hot", "nn.functional.pad circular", "nn.functional.pad constant",
    "nn.functional.pad reflect", "nn.functional.pad replicate", "nn.functional.pad replicate_negative",
    "nn.functional.relu6", "nn.functional.rms_norm", "nn.functional.selu", "nn.functional.softplus", "norm",
    "norm fro", "norm inf", "norm nuc", "ones", "outer", "prod", "randn", "ravel", "reciprocal", "remainder",
    "repeat", "repeat_interleave", "reshape_as", "roll", "round", "round decimals_0", "round decimals_3",
    "round decimals_neg_3", "rsqrt", "sigmoid", "sign", "sin", "softmax", "sort", "split", "split list_args",
    "square", "squeeze", "squeeze multiple", "std", "std unbiased", "take_along_dim", "tile", "topk", "trace", "tril",
    "triu", "trunc", "unbind", "unflatten", "var", "var unbiased", "vdot", "view_as", "vstack", "zeros",
})  # fmt: skip

#: functions of which some calls with NumPy's keywords do not give NumPy's values
UNFINISHED_BESIDE_NUMPY = frozenset({
    "amax", "amin", "clip", "concatenate", "divide", "exp", "log", "max", "mean", "min", "reshape", "split", "sqrt",
    "stack", "sum", "tanh", "true_divide", "var",
})  # fmt: skip

#: names of which some calls without keywords end in another result, or in an unclear error
UNFINISHED_WITHOUT_KEYWORDS = frozenset({
    "amax", "amin", "clip", "concatenate", "max", "mean", "min", "reshape", "split", "squeeze", "sum", "transpose",
    "var", "view",
})  # fmt: skip

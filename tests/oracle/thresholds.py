"""What test_opinfo.py asks of PyTorch's samples at present. An operator that is finished leaves UNFINISHED."""

#: dtype -> the part of the calls that must be equal, without those that the table of ambiguous calls refuses
LEAST_EQUAL = {"float64": 0.70, "float32": 0.70, "float16 elementwise": 0.30}

#: operators of which some calls still end in another result, in an unclear error, or in a name that is missing
UNFINISHED = frozenset({
    "__rand__", "__rmod__", "__ror__", "__rpow__", "__rxor__", "allclose", "arange", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "ceil", "clamp", "clone", "cos", "eq", "exp2", "expm1", "eye", "floor",
    "floor_divide", "full", "ge", "gt", "isclose", "isfinite", "isinf", "isnan", "le", "log10", "log1p", "log2",
    "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "max binary", "maximum", "min binary", "minimum",
    "ne", "nn.functional.binary_cross_entropy_with_logits", "nn.functional.celu", "nn.functional.elu",
    "nn.functional.hardtanh", "nn.functional.leaky_relu", "nn.functional.logsigmoid", "nn.functional.relu6",
    "nn.functional.selu", "nn.functional.softplus", "ones", "pow", "randn", "reciprocal", "remainder", "round",
    "round decimals_0", "round decimals_3", "round decimals_neg_3", "rsqrt", "sigmoid", "sign", "sin", "square",
    "trunc", "zeros",
})  # fmt: skip

#: functions of which some calls with NumPy's keywords do not give NumPy's values
UNFINISHED_BESIDE_NUMPY = frozenset({
    "clip", "divide", "exp", "log", "sqrt", "tanh", "true_divide",
})  # fmt: skip

#: names of which some calls without keywords end in another result, or in an unclear error
UNFINISHED_WITHOUT_KEYWORDS = frozenset({
    "clip",
})  # fmt: skip

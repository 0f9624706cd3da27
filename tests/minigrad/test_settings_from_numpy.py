"""A setting that is a number of NumPy's, np.int64(0) of a loop over np.arange, does what Python's number does."""

import contextlib
import inspect
import re

import numpy as np
import pytest

import minigrad as mg

F = mg.functional
RNG = np.random.default_rng(4)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


M, CUBE, SQUARE = normal(3, 4), normal(2, 3, 4), normal(3, 3)
SIGNAL, PLANE = normal(2, 2, 7), normal(2, 2, 7, 7)
HEADS, QKV = normal(2, 2, 4, 4), normal(2, 4, 12)
IDS, ROWS, PLACES = np.array([0, 2, 1]), np.array([0, 2]), np.array([[0, 1, 2, 0]])
UP = np.abs(normal(3, 4)) + 1
TAPE = {"p": 0.5, "seed": 1, "step": 2, "stream": 3}
OF_AXES = [{"dim": 1, "keepdim": True}, {"axis": 1, "keepdims": True}]
POOL = {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}

CALLS = [  # function, its inputs, settings
    *[(name, (M,), each) for each in OF_AXES
      for name in ("sum", "mean", "prod", "amax", "amin", "max", "min", "all", "any", "count_nonzero", "norm", "argmax",
                   "argmin", "logsumexp", "median")],
    *[(name, (IDS,), {"dim": 0, "keepdim": True}) for name in ("sum", "prod", "any", "max")],
    *[(name, (M,), each) for name in ("var", "std")
      for each in [{"dim": 0, "correction": 1, "keepdim": True}, {"dim": 0, "unbiased": False},
                   {"axis": 0, "ddof": 1, "keepdims": True}, {"dim": 1, "correction": 0.5}]],
    *[("norm", (M,), {"p": p, "dim": 0}) for p in (1, 2.5)], ("norm", (M,), {"ord": 1}),
    *[("norm", (SQUARE[0],), {"ord": 3.0})],
    *[(name, (M,), {word: 1}) for name in ("cumsum", "cumprod", "softmax", "log_softmax") for word in ("dim", "axis")],
    *[(name, (M,), {"dim": 0, "descending": True, "stable": True}) for name in ("sort", "argsort")],
    *[(name, (M,), {"axis": 0, "stable": True}) for name in ("sort", "argsort")],
    ("topk", (M,), {"k": 2, "dim": 0, "largest": False, "sorted": True}),
    *[(name, (M, M + 1e-6), {"rtol": 0.0, "atol": 1e-3, "equal_nan": True}) for name in ("isclose", "allclose")],
    ("array_equal", (M, M), {"equal_nan": True}),
    *[(name, (M, UP), {"alpha": 0.3}) for name in ("add", "sub", "subtract")],
    *[(name, (M,), {"inplace": False}) for name in ("relu", "relu6", "silu", "selu")],
    ("elu", (M,), {"alpha": 0.7, "inplace": False, "scale": 1.3}), ("celu", (M,), {"alpha": 0.7, "inplace": False}),
    ("leaky_relu", (M,), {"negative_slope": 0.1, "inplace": False}),
    ("softplus", (M,), {"beta": 1.7, "threshold": 2.3}),
    ("hardtanh", (M,), {"min_val": -0.3, "max_val": 0.4, "inplace": False}),
    ("hardtanh", (np.arange(5),), {"min_val": 1, "max_val": 3}),
    ("clip", (M,), {"min": -0.3, "max": 0.4}), ("clip", (np.arange(5),), {"min": 1, "max": 3}),
    ("round", (M,), {"decimals": 1}), ("round", (np.arange(30),), {"decimals": -1}),
    ("dropout", (M,), {"p": 0.0, "training": True, "inplace": False}), ("dropout", (M,), {"p": 0.5, "training": False}),
    ("seeded_dropout", (M,), TAPE),
    ("flash_attention", (HEADS, HEADS + 1, HEADS - 1), {"causal": True, "scale": 0.4, **TAPE}),
    ("causal_self_attention", (QKV,), {"n_head": 2, **TAPE}),
    ("scaled_dot_product_attention", (HEADS, HEADS + 1, HEADS - 1),
     {"dropout_p": 0.0, "is_causal": True, "scale": 0.4, "enable_gqa": True}),
    ("scaled_dot_product_attention", (HEADS, HEADS[..., :3, :] + 1, HEADS[..., :3, :]),
     {"dropout_p": 0.0, "is_causal": False, "scale": 0.4}),
    *[(name, (SIGNAL if name[-2] == "1" else PLANE,), {**POOL, **more}) for name, more in {
        "avg_pool1d": {"count_include_pad": False}, "avg_pool2d": {"count_include_pad": False, "divisor_override": 3},
        "max_pool1d": {"dilation": 1, "return_indices": True}, "max_pool2d": {"dilation": 1, "return_indices": True},
      }.items()],
    ("conv1d", (SIGNAL, normal(4, 1, 3)), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    ("conv2d", (PLANE, normal(4, 1, 3, 3)), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    ("sliding_windows", (SIGNAL,),
     {"kernel_size": (3,), "stride": (2,), "padding": ((1, 1),), "dilation": (1,), "fill": 0.3}),
    ("cross_entropy", (SQUARE, IDS), {"ignore_index": 2, "label_smoothing": 0.1}),
    ("nll_loss", (SQUARE, IDS), {"ignore_index": 2}), ("softmax_cross_entropy", (SQUARE, IDS), {"ignore_index": 2}),
    ("linear_cross_entropy", (SQUARE, normal(5, 3), IDS),
     {"ignore_index": 2, "label_smoothing": 0.1, "grad_scale": 0.5}),
    ("huber_loss", (M, UP), {"delta": 0.7}), ("smooth_l1_loss", (M, UP), {"beta": 0.7}),
    ("kl_div", (M, UP), {"log_target": True}),
    ("embedding", (IDS, SQUARE), {"padding_idx": 1, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False,
                                  "sparse": False}),
    ("one_hot", (IDS,), {"num_classes": 4}),
    ("layer_norm", (M,), {"normalized_shape": 4, "eps": 0.1}), ("rms_norm", (M,), {"normalized_shape": 4, "eps": 0.1}),
    ("layernorm", (M, normal(4), normal(4)), {"eps": 0.1}), ("rmsnorm", (M, normal(4)), {"eps": 0.1}),
    ("broadcast_to", (M,), {"shape": (2, 3, 4)}), ("broadcast_to", (M,), {"size": (2, 3, 4)}),
    ("expand", (M,), {"size": (2, 3, 4)}), ("reshape", (M,), {"shape": 12}), ("view", (M,), {"size": (4, 3)}),
    ("repeat", (M,), {"repeats": (2, 1)}), ("repeat", (M,), {"repeats": 2, "axis": 0}),
    *[("tile", (M,), {word: (2, 1)}) for word in ("dims", "reps")],
    *[("repeat_interleave", (M, np.array(2)), {word: 0, "output_size": 6}) for word in ("dim", "axis")],
    *[(name, ([M, UP],), {"dim": 1}) for name in ("cat", "concat", "concatenate", "stack")],
    *[("chunk", (M,), {"chunks": 2, word: 1}) for word in ("dim", "axis")],
    ("split", (M,), {"split_size_or_sections": 2, "dim": 1}), ("split", (M,), {"split_size": 2, "dim": 1}),
    ("split", (M,), {"indices_or_sections": 2, "axis": 1}), *[("unbind", (M,), {word: 1}) for word in ("dim", "axis")],
    *[(name, (CUBE,), {"offset": 1, words + "1": 0, words + "2": 2})
      for name in ("diagonal", "trace") for words in ("dim", "axis")],
    *[(name, (M,), {word: 1}) for name in ("tril", "triu") for word in ("diagonal", "k")],
    *[(name, (M,), {"axis": 1}) for name in ("expand_dims", "unsqueeze")],
    *[("squeeze", (M[:, :1],), {word: 1}) for word in ("dim", "axis")],
    ("flatten", (CUBE,), {"start_dim": 0, "end_dim": 1}), ("unflatten", (M,), {"dim": 1, "sizes": (2, 2)}),
    *[("flip", (M,), {word: 1}) for word in ("dims", "axis")],
    ("roll", (M,), {"shifts": 1, "dims": 0}), ("roll", (M,), {"shift": 1, "axis": 0}),
    *[(name, (CUBE,), {"source": 0, "destination": 2}) for name in ("moveaxis", "movedim")],
    *[("permute", (CUBE,), {word: (2, 0, 1)}) for word in ("dims", "axes")],
    ("transpose", (CUBE,), {"axes": (2, 0, 1)}), ("transpose", (CUBE,), {"dim0": 0, "dim1": 2}),
    ("swapaxes", (CUBE,), {"axis0": 0, "axis1": 2}), ("swapdims", (CUBE,), {"dim0": 0, "dim1": 2}),
    ("swapaxes", (CUBE,), {"axis1": 0, "axis2": 2}),
    ("pad", (M,), {"pad": (1, 2), "value": 0.3}), ("pad", (M,), {"pad_width": 1, "constant_values": 0.3}),
    ("gather", (M,), {"dim": 0, "index": PLACES}), ("index_select", (M,), {"dim": 0, "index": ROWS}),
    ("take", (M, ROWS), {"axis": 0}), ("take_along_axis", (M, PLACES), {"axis": 0}),
    *[("take_along_dim", (M, PLACES), {word: 0}) for word in ("dim", "axis")],
    *[(name, (UP,), {"other": 0.3}) for name in (
        "add", "sub", "mul", "div", "remainder", "floor_divide", "maximum", "minimum",
        "eq", "ne", "lt", "le", "gt", "ge",
        "logical_and")],
    ("pow", (UP,), {"exponent": 0.3}), ("masked_fill", (M, M > 0), {"value": 0.3}),
    ("eq", (M,), {"other": float(M[0, 0])}),
]  # fmt: skip


def from_numpy(value):
    """A number, or each of a tuple of them, as NumPy's scalar."""
    if isinstance(value, tuple):
        return tuple(map(from_numpy, value))
    return {bool: np.bool, int: np.int64, float: np.float64}.get(type(value), lambda v: v)(value)


def outcome(name, inputs, settings):
    """Results and gradients of one call, as arrays with their dtypes."""
    leaves = []

    def leaf(array):
        if isinstance(array, list):
            return [leaf(part) for part in array]
        leaves.append(mg.tensor(array, requires_grad=array.dtype.kind == "f"))
        return leaves[-1]

    out = getattr(F, name)(*map(leaf, inputs), **settings)
    tensors = out if isinstance(out, (tuple, list)) else [out]
    wanted = [t for t in tensors if isinstance(t, mg.Tensor) and t.requires_grad]
    if wanted:
        sum((t * t).sum() for t in wanted).backward()
    return [np.asarray(t.data if isinstance(t, mg.Tensor) else t) for t in tensors], [t.grad for t in leaves]


@pytest.mark.parametrize("name, inputs, settings", CALLS, ids=[f"{name}-{'-'.join(s)}" for name, _, s in CALLS])
def test_a_setting_may_be_numpys_number(name, inputs, settings):
    expected, gradients = outcome(name, inputs, settings)
    results, others = outcome(name, inputs, {word: from_numpy(value) for word, value in settings.items()})
    for a, b in zip([*expected, *gradients], [*results, *others], strict=True):
        if a is None:
            assert b is None
        else:
            np.testing.assert_array_equal(a, b, strict=True)


NUMBERS = re.compile(r"\b(int|float|bool|Ints|Axes)\b")
NO_SETTINGS = {"size_average", "reduce", "operands", "index", "order", "dtype"}  # refused, by position, or no numbers
BY_POSITION = {("expand", "sizes"), ("repeat", "sizes"), ("reshape", "sizes"), ("tile", "sizes"), ("view", "sizes"),
               ("flip", "axes")}  # fmt: skip


def test_no_setting_is_left_out():
    tried = {(name, word) for name, _, settings in CALLS for word in settings}
    missing = []
    for name in F.__all__:
        function, parameters = getattr(F, name), {}
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(function).parameters
        missing += [
            (name, p.name)
            for p in parameters.values()
            if NUMBERS.search(str(p.annotation))
            and p.name not in NO_SETTINGS
            and (name, p.name) not in BY_POSITION | tried
        ]
    assert not missing

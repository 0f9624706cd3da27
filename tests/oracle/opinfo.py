"""PyTorch's own samples of an operator, called in PyTorch and in minigrad; values and gradients compared."""

import contextlib
import itertools
import os
import random
import warnings
import zlib

import numpy as np
import outcomes
from operators import NOT_COMMON, OPERATORS
from outcomes import DIFFERENT, EQUAL, MISSING, UNCLEAR, Outcome

import minigrad as mg

FLOATS = ("float64", "float32")
INTEGER_OPERATORS = {"bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "__rand__", "__ror__", "__rxor__",
                     "nn.functional.one_hot"}  # fmt: skip
IN_COMPLEX_NUMBERS = {("nn.functional.silu", "complex")}
WITHOUT_MEANING = {"device", "options"}  # keywords about where and how, not about what: minigrad has one way
#: dtype -> largest error, relative to the element and to the largest element
TOLERANCES = {
    "float64": (1e-9, 1e-11),
    "float32": (2e-5, 2e-6),
    "float16": (2e-2, 5e-3),  # eps is 1e-3, and sums of many elements cancel; float32 and float64 test the formulas
}


def load_op_db():
    """PyTorch's table. Importing it warns and sets variables of the environment; neither is seen outside."""
    before = dict(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    os.environ.clear()
    os.environ.update(before)
    return op_db


def entries(names=OPERATORS):
    """The entries of PyTorch's table for these operators: one for each variant."""
    chosen = [e for e in load_op_db() if e.name in names and (e.name, e.variant_test_name) not in IN_COMPLEX_NUMBERS]
    if missing := set(names) - {entry.name for entry in chosen}:
        raise ValueError(f"PyTorch's table has no {', '.join(sorted(missing))}")
    return chosen


def unlisted(op_db):
    """Names of PyTorch's table that minigrad has, and that operators.py does not list."""
    found = set()
    for entry in op_db:
        module, _, name = entry.name.rpartition(".")
        if module in ("", "nn.functional") and not name.startswith("_"):
            is_there = callable(getattr(mg.functional, name, None)) or hasattr(mg.Tensor, name)
            if is_there and entry.name not in OPERATORS and entry.name not in NOT_COMMON:
                found.add(entry.name)
    return found


def title(entry):
    return f"{entry.name} {entry.variant_test_name}".strip()


# ------------------------------------------------------------------------------------------ calls


def samples(entry, dtype, at_most=None):
    """The samples of an entry in that dtype, contiguous and not; `at_most` of them, evenly spaced."""
    import torch

    if entry.name in INTEGER_OPERATORS and dtype == "float64":
        dtype = "int64"
    torch_dtype = getattr(torch, dtype)
    if torch_dtype not in entry.dtypes:
        return []
    needs_grad = entry.supports_autograd and torch_dtype.is_floating_point
    with seeded(zlib.crc32(title(entry).encode())):
        plain = list(entry.sample_inputs("cpu", torch_dtype, requires_grad=needs_grad, set_seed=False))
        if at_most is not None and len(plain) > at_most:
            plain = [plain[i] for i in np.linspace(0, len(plain) - 1, at_most).round().astype(int)]
        strided = [sample.noncontiguous() for sample in plain]
    return list(itertools.chain.from_iterable(zip(plain, strided, strict=True)))


@contextlib.contextmanager
def seeded(seed):
    """PyTorch's and Python's random numbers begin at this seed; afterwards they go on as before."""
    import torch

    before = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        yield
    random.setstate(before)


def outcomes_of(entry, dtype, at_most=None):
    """(how the call is written, its Outcome) for each sample that PyTorch itself computes in that dtype."""
    for sample in samples(entry, dtype, at_most):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outcome = compare(entry, sample, dtype)
        if outcome is not None:
            yield written(entry, sample), outcome


def compare(entry, sample, dtype):
    """The Outcome of a sample; None if PyTorch cannot compute it."""
    try:
        theirs = Theirs(entry, sample, dtype)
    except (RuntimeError, NotImplementedError):  # no such kernel for this dtype
        return None
    operator = OPERATORS[entry.name]
    name = operator.path or entry.name.rpartition(".")[2]
    if operator.call is None and not hasattr(mg, name):
        return Outcome(MISSING, f"minigrad has no {name}")
    translate = Translation()
    args, kwargs = translate((sample.input, *sample.args)), translate(sample.kwargs)
    try:
        out = operator.call(mg, *args, **kwargs) if operator.call else getattr(mg, name)(*args, **kwargs)
    except Exception as error:
        return outcomes.of_error(error)
    ours = flat(out)
    is_random = operator.random and theirs.is_random(sample)
    if problem := difference(ours, theirs, dtype, is_random):
        return Outcome(DIFFERENT, problem)
    try:
        return gradient_outcome(ours, translate.leaves(), theirs, dtype, is_random)
    except Exception as error:
        said = outcomes.of_error(error).detail
        return Outcome(UNCLEAR, f"in backward, {said}")


class Theirs:
    """PyTorch's results: outputs, a random gradient of each that has one, and the gradients of the leaves.

    Those of float16 are computed in float64: PyTorch's own overflow where what is computed on the way is large.
    """

    def __init__(self, entry, sample, dtype):
        import torch

        def call(of):
            return flat(entry.op(of.input, *of.args, **of.kwargs))

        self.leaves = [t for t in tensors((sample.input, sample.args, sample.kwargs)) if t.requires_grad]
        computed = self.outputs = call(sample)
        if dtype == "float16":
            computed = call(sample.transform(lambda t: t.double() if getattr(t, "dtype", None) == torch.half else t))
            self.outputs = [
                c.to(o.dtype) if isinstance(c, torch.Tensor) else c for c, o in zip(computed, self.outputs, strict=True)
            ]
        differentiable = [o for o in computed if isinstance(o, torch.Tensor) and o.requires_grad]
        rng = np.random.default_rng(len(computed))
        self.upstream = [rng.standard_normal(o.shape).astype(dtype) for o in differentiable]
        self.grads = [None] * len(self.leaves)
        if differentiable and self.leaves:
            upstream = [
                torch.from_numpy(np.asarray(u)).to(o.dtype) for u, o in zip(self.upstream, differentiable, strict=True)
            ]
            self.grads = torch.autograd.grad(differentiable, self.leaves, upstream, allow_unused=True)

    def is_random(self, sample):
        """Whether this call draws random numbers."""
        p = sample.kwargs.get("p", sample.kwargs.get("dropout_p", 0.5 if sample.kwargs.get("training") else 0.0))
        return not self.leaves or (p not in (0.0, 1.0) and sample.kwargs.get("training", True))


class Translation:
    """PyTorch's arguments as minigrad's: a tensor that comes twice is one tensor."""

    def __init__(self):
        self.made = {}

    def __call__(self, value):
        import torch

        if isinstance(value, torch.Tensor):
            if id(value) not in self.made:
                self.made[id(value)] = value, mg.tensor(array(value), requires_grad=value.requires_grad)
            return self.made[id(value)][1]
        if isinstance(value, torch.dtype):
            return np.dtype(str(value).removeprefix("torch."))
        if isinstance(value, (list, tuple)):
            return (list if isinstance(value, list) else tuple)(map(self, value))
        if isinstance(value, dict):
            return {key: self(v) for key, v in value.items() if key not in WITHOUT_MEANING}
        if isinstance(value, slice):
            return slice(*map(self, (value.start, value.stop, value.step)))
        return value

    def leaves(self):
        return [ours for theirs, ours in self.made.values() if theirs.requires_grad]


def tensors(value):
    """Every torch tensor in nested arguments, each once, in the order in which Translation meets them."""
    import torch

    found = {}

    def visit(part):
        if isinstance(part, torch.Tensor):
            found[id(part)] = part
        elif isinstance(part, (list, tuple)):
            list(map(visit, part))
        elif isinstance(part, dict):
            list(map(visit, part.values()))
        elif isinstance(part, slice):
            list(map(visit, (part.start, part.stop, part.step)))

    visit(value)
    return list(found.values())


def flat(out):
    """Outputs as a list: a tensor, a number, or nested tuples and lists of them."""
    return [leaf for part in out for leaf in flat(part)] if isinstance(out, (tuple, list)) else [out]


def array(tensor):
    return tensor.detach().resolve_conj().resolve_neg().numpy()


# ------------------------------------------------------------------------------------------ comparison


def difference(ours, theirs, dtype, is_random):
    """What differs between the outputs, in words; None if they are equal."""
    if len(ours) != len(theirs.outputs):
        return f"{len(ours)} outputs, expected {len(theirs.outputs)}"
    for mine, other in zip(ours, theirs.outputs, strict=True):
        if not hasattr(other, "requires_grad"):  # a number
            if type(mine) is not type(other) or not np.allclose(mine, other, 1e-6, 0, equal_nan=True):
                return f"{mine!r}, expected {other!r}"
            continue
        if not isinstance(mine, mg.Tensor):
            return f"a {type(mine).__name__}, expected a Tensor"
        if problem := array_difference(mine.data, array(other), dtype, is_random):
            return problem
        if other.requires_grad and not mine.requires_grad:
            return "no gradient"
    return None


def gradient_outcome(ours, leaves, theirs, dtype, is_random):
    """The Outcome of backward, from a random gradient of each output."""
    differentiable = [mine for mine, other in zip(ours, theirs.outputs, strict=True)
                      if getattr(other, "requires_grad", False)]  # fmt: skip
    if not theirs.leaves:
        return Outcome(EQUAL)
    for out, upstream in zip(differentiable, theirs.upstream, strict=True):
        out.backward(upstream, retain_graph=True)
    for mine, other in zip(leaves, theirs.grads, strict=True):
        expected = np.zeros(mine.shape, mine.dtype) if other is None else array(other)
        found = np.zeros(mine.shape, mine.dtype) if mine.grad is None else mine.grad
        if problem := array_difference(found, expected, dtype, is_random):
            return Outcome(DIFFERENT, f"gradient: {problem}")
    return Outcome(EQUAL)


def array_difference(found, expected, dtype, is_random=False):
    """What differs between two arrays, in words; None if nothing does. Random ones: shape and dtype alone."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    if found.dtype != expected.dtype:
        return f"{found.dtype}, expected {expected.dtype}"
    if is_random or not found.size:
        return None
    if expected.dtype.kind != "f":
        wrong = found != expected
    else:
        relative, of_largest = TOLERANCES[dtype]
        mine, other = found.astype(np.float64), expected.astype(np.float64)
        finite = np.abs(other[np.isfinite(other)])
        bound = relative * np.abs(other) + of_largest * (finite.max() if finite.size else 0)
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        wrong = ~same & ~(np.isfinite(other) & (np.abs(mine - other) <= bound))
    if wrong.any():
        at = tuple(map(int, np.argwhere(wrong)[0]))
        return f"{found[at]} at {at}, expected {expected[at]} ({wrong.sum()} of {wrong.size} elements)"
    return None


# ------------------------------------------------------------------------------------------ words


def written(entry, sample):
    """The call as a user would write it: tensors by shape and dtype, small ones by their values."""
    parts = [shown(value) for value in (sample.input, *sample.args)]
    parts += [f"{key}={shown(value)}" for key, value in sample.kwargs.items() if key not in WITHOUT_MEANING]
    return f"{title(entry)}({', '.join(parts)})"


def shown(value):
    import torch

    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        layout = "" if value.is_contiguous() else " strided"
        numbers = f" {value.tolist()}" if value.numel() <= 4 and not value.dtype.is_floating_point else ""
        return f"<{dtype} {tuple(value.shape)}{layout}{numbers}>"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    return repr(value)

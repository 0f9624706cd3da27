"""PyTorch's own samples of an operator, called in PyTorch and in minigrad; values and gradients compared."""

import contextlib
import functools
import itertools
import os
import random
import warnings
import zlib

import numpy as np
import outcomes
from operators import NOT_COMMON, OPERATORS, Operator
from outcomes import DIFFERENT, EQUAL, MISSING, UNCLEAR, Outcome

import minigrad as mg

FLOATS = ("float64", "float32")
INTEGER_OPERATORS = {"bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "__rand__", "__ror__", "__rxor__",
                     "nn.functional.one_hot"}  # fmt: skip
IN_COMPLEX_NUMBERS = {("nn.functional.silu", "complex")}
WITHOUT_MEANING = {"device", "memory_format", "options"}  # where and how, not what: minigrad has one way
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


def compare(entry, sample, dtype, alias=None):
    """The Outcome of a sample; None if PyTorch cannot compute it. alias: minigrad's function, if it is another."""
    try:
        theirs = Theirs(entry, sample, dtype)
    except (RuntimeError, NotImplementedError):  # no such kernel for this dtype
        return None
    operator = OPERATORS[entry.name] if alias is None else Operator(alias)
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
    chance = operator.random and theirs.draws(sample)
    if problem := difference(ours, theirs, dtype, chance, operator.order and theirs.has_ties(sample)):
        return Outcome(DIFFERENT, problem)
    if chance or (operator.order and theirs.has_ties(sample)):
        wrong = entry.name == "nn.functional.dropout" and not is_dropped_out(ours[0].data, sample)
        return Outcome(DIFFERENT, "neither 0 nor x / (1 - p)") if wrong else Outcome(EQUAL)
    try:
        return gradient_outcome(ours, translate.leaves(), theirs, dtype)
    except Exception as error:
        said = outcomes.of_error(error).detail
        return Outcome(UNCLEAR, f"in backward, {said}")


def is_dropped_out(out, sample):
    """Whether every element of `out` is 0, or the input's divided by 1 - p."""
    kept = array(sample.input) / (1 - sample.kwargs.get("p", 0.5))
    return bool(np.all((out == 0) | np.isclose(out, kept, 1e-3 if out.dtype == np.float16 else 1e-6)))


class Theirs:
    """PyTorch's results: outputs, a random gradient of each that has one, and the gradients of the leaves.

    Those of float16 are computed in float64: PyTorch's own overflow where what is computed on the way is large.
    """

    def __init__(self, entry, sample, dtype):
        self.entry, self.sample = entry, sample
        self.leaves = [t for t in tensors((sample.input, sample.args, sample.kwargs)) if t.requires_grad]
        self.upstream = None
        self.outputs, self.grads = self.results((sample.input, *sample.args), sample.kwargs)
        self.own = None
        if dtype == "float16":
            self.own, (outputs, self.grads) = (self.outputs, self.grads), self.wide
            self.outputs = [w.to(o.dtype) if hasattr(w, "to") else w for w, o in zip(outputs, self.own[0], strict=True)]

    def reference(self):
        """The other results: those computed in float64, or, beside these, PyTorch's own of float16."""
        return self.own or self.wide

    def results(self, args, kwargs):
        """(outputs, gradients of the leaves) of a call."""
        import torch

        outputs = flat(self.entry.op(*args, **kwargs))
        differentiable = [o for o in outputs if isinstance(o, torch.Tensor) and o.requires_grad]
        if self.upstream is None:
            rng = np.random.default_rng(len(outputs))
            self.upstream = [np.asarray(rng.standard_normal(o.shape)).astype(array(o).dtype) for o in differentiable]
        if not differentiable or not self.leaves:
            return outputs, [None] * len(self.leaves)
        upstream = [torch.from_numpy(u).to(o.dtype) for u, o in zip(self.upstream, differentiable, strict=True)]
        return outputs, torch.autograd.grad(differentiable, self.leaves, upstream, allow_unused=True)

    @functools.cached_property
    def wide(self):
        """The same results with all floating-point tensors in float64."""
        import torch

        made = {}

        def widened(tensor):
            is_narrow = tensor.dtype in (torch.float16, torch.float32)
            return made.setdefault(id(tensor), tensor.double() if is_narrow else tensor)

        args, kwargs = mapped((self.sample.input, *self.sample.args), widened), mapped(self.sample.kwargs, widened)
        return self.results(args, kwargs)

    def draws(self, sample):
        """Whether this call draws random numbers."""
        if not self.leaves:
            return True
        if self.entry.name == "nn.functional.dropout":
            return sample.kwargs.get("training", True) and sample.kwargs.get("p", 0.5) not in (0.0, 1.0)
        return sample.kwargs.get("dropout_p", 0.0) != 0.0

    def has_ties(self, sample):
        """Whether the order of the input's elements is not unique."""
        return np.unique(array(sample.input)).size < sample.input.numel()


class Translation:
    """PyTorch's arguments as minigrad's: a tensor that comes twice is one tensor."""

    def __init__(self):
        self.made = {}

    def __call__(self, value):
        return mapped(value, self.tensor, lambda dtype: np.dtype(str(dtype).removeprefix("torch.")))

    def tensor(self, theirs):
        if id(theirs) not in self.made:
            self.made[id(theirs)] = theirs, mg.tensor(array(theirs), requires_grad=theirs.requires_grad)
        return self.made[id(theirs)][1]

    def leaves(self):
        return [ours for theirs, ours in self.made.values() if theirs.requires_grad]


def mapped(value, tensor, dtype=lambda same: same):
    """Nested arguments with every torch tensor and every torch dtype replaced, and without those that say nothing."""
    import torch

    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, torch.dtype):
        return dtype(value)
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(mapped(v, tensor, dtype) for v in value)
    if isinstance(value, dict):
        return {key: mapped(v, tensor, dtype) for key, v in value.items() if key not in WITHOUT_MEANING}
    if isinstance(value, slice):
        return slice(*(mapped(v, tensor, dtype) for v in (value.start, value.stop, value.step)))
    return value


def tensors(value):
    """Every torch tensor in nested arguments, each once, in the order in which `mapped` meets them."""
    found = {}
    mapped(value, lambda tensor: found.setdefault(id(tensor), tensor))
    return list(found.values())


def flat(out):
    """Outputs as a list: a tensor, a number, or nested tuples and lists of them."""
    return [leaf for part in out for leaf in flat(part)] if isinstance(out, (tuple, list)) else [out]


def array(tensor):
    return tensor.detach().resolve_conj().resolve_neg().numpy()


# ------------------------------------------------------------------------------------------ comparison


def difference(ours, theirs, dtype, chance, ties):
    """What differs between the outputs, in words; None if they are equal.

    chance: the values are random. ties: indices may name another of two equal elements. Then shape and dtype count.
    """
    if len(ours) != len(theirs.outputs):
        return f"{len(ours)} outputs, expected {len(theirs.outputs)}"
    for i, (mine, other) in enumerate(zip(ours, theirs.outputs, strict=True)):
        if not hasattr(other, "requires_grad"):  # a number
            if type(mine) is not type(other) or not np.allclose(mine, other, 1e-6, 0, equal_nan=True):
                return f"{mine!r}, expected {other!r}"
            continue
        if not isinstance(mine, mg.Tensor):
            return f"a {type(mine).__name__}, expected a Tensor"
        any_value = chance or (ties and not other.is_floating_point())
        reference = functools.partial(lambda i: array(theirs.reference()[0][i]), i)
        if problem := array_difference(mine.data, array(other), dtype, None if any_value else reference):
            return problem
        if other.requires_grad and not mine.requires_grad:
            return "no gradient"
    return None


def gradient_outcome(ours, leaves, theirs, dtype):
    """The Outcome of backward, from a random gradient of each output."""
    if not theirs.leaves:
        return Outcome(EQUAL)
    differentiable = [mine for mine, other in zip(ours, theirs.outputs, strict=True)
                      if getattr(other, "requires_grad", False)]  # fmt: skip
    for out, upstream in zip(differentiable, theirs.upstream, strict=True):
        out.backward(upstream.astype(out.dtype), retain_graph=True)
    scale = max(map(largest, [*theirs.upstream, *(array(g) for g in theirs.grads if g is not None)]), default=0)
    for i, (mine, other) in enumerate(zip(leaves, theirs.grads, strict=True)):
        expected = np.zeros(mine.shape, mine.dtype) if other is None else array(other)
        found = np.zeros(mine.shape, mine.dtype) if mine.grad is None else mine.grad
        reference = functools.partial(lambda i: array(theirs.reference()[1][i]), i)
        if problem := array_difference(found, expected, dtype, reference, scale):
            return Outcome(DIFFERENT, f"gradient: {problem}")
    return Outcome(EQUAL)


def array_difference(found, expected, dtype, reference, scale=0.0):
    """What differs between two arrays, in words; None if nothing does.

    reference() gives the result computed in float64: what is no farther from it than 4 times PyTorch's own largest
    error is equal. Without a reference only shape and dtype count. scale: what an error of rounding is relative to,
    unless the array has larger elements.
    """
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    if found.dtype != expected.dtype:
        return f"{found.dtype}, expected {expected.dtype}"
    if reference is None or not found.size:
        return None
    if expected.dtype.kind != "f":
        wrong = found != expected
    else:
        relative, of_largest = max(TOLERANCES[d] for d in (dtype, str(expected.dtype)) if d in TOLERANCES)
        rounding = of_largest * max(scale, largest(expected))
        wrong = differs(found, expected, relative, rounding)
        if wrong.any() and expected.dtype != np.float64:
            other = reference()
            wrong &= differs(found, other, relative, rounding + 4 * largest(expected - other))
    if wrong.any():
        at = tuple(map(int, np.argwhere(wrong)[0]))
        return f"{found[at]} at {at}, expected {expected[at]} ({wrong.sum()} of {wrong.size} elements)"
    return None


def differs(found, expected, relative, absolute):
    """Where two arrays differ by more than that."""
    mine, other = found.astype(np.float64), expected.astype(np.float64)
    same = (mine == other) | (np.isnan(mine) & np.isnan(other))
    return ~same & ~(np.isfinite(other) & (np.abs(mine - other) <= relative * np.abs(other) + absolute))


def largest(values):
    """The largest finite magnitude in an array."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


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

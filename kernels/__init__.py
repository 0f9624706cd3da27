"""Numeric routines on raw arrays: written once in plain NumPy, once for speed, under the same names.

A kernel never sees a Tensor. Every kernel has one name and one signature on every backend, returns its
outputs (only the AdamW steps and `scale_and_check` work in place), never modifies an input, and accumulates in
float64 for float64 arrays and in float32 for all others. `dx` is the gradient of `x`; `dout` the one that comes in.

    kernels.for_array(x).layernorm_forward(x, weight, bias, eps)      # the backend follows the array
    with kernels.use("reference", ops=["attention"]): ...             # rule a suspect kernel out

Letters: B batch, T time, C channels, H heads, D head size, V vocabulary, N rows (all leading axes in one).
"""

from tiny_transformer_np_package_check import __version__ as __version__  # isort: skip  first: refuses foreign packages
import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from kernels.system import renamed_commands

renamed_commands.answer({"kernels.cuda.sim": "cudasim", "kernels.cuda.gates": "cudagates"})

#: The operations. Each has a home, kernels/OP/: `reference.py` in plain array code, `cpu.py` compiled by Numba,
#: `cuda.py` with its .cu files, and `spec.py`, which names the kernels. A new operation gets a line here.
OPS = (
    "linear",
    "layernorm",
    "rmsnorm",
    "gelu",
    "embedding",
    "dropout",
    "attention",
    "softmax_cross_entropy",
    "linear_cross_entropy",
    "adamw",
    "global_norm",
    "scale_and_check",
    "cast",
)
#: op -> its kernels, which every backend defines
KERNELS = {op: tuple(kernel.name for kernel in importlib.import_module(f"kernels.{op}.spec").KERNELS) for op in OPS}
SETS = ("fast", "reference")

# array type -> the backend of its fast kernels; by name, since neither CuPy nor a compiler is imported before its use
_FAST = {"numpy.ndarray": "cpu", "cupy.ndarray": "cuda", "cudasim.array.SimArray": "cuda"}
_initial = dict.fromkeys(KERNELS, "fast")  # the choice with which a thread begins: the main thread's last `select`


class _Thread(threading.local):
    """Each thread's choice."""

    def __init__(self) -> None:
        self.choice = dict(_initial)  # op -> name of a set
        self.active: dict[type, SimpleNamespace] = {}  # array type -> the kernels in use; filled on first use


_thread = _Thread()


def for_array(x: object) -> SimpleNamespace:
    """The kernels in use for arrays of this type, as an object with one attribute per kernel."""
    active = _thread.active.get(type(x))
    return _load(type(x)) if active is None else active


@functools.cache
def backend(name: str) -> SimpleNamespace:
    """All kernels of a backend, "reference", "cpu" or "cuda", as the attributes of one object.

    Its modules are imported now: only what is in use is, since the reference kernels must not import the compiler.
    """
    modules = {op: importlib.import_module(f"kernels.{op}.{name}") for op in OPS}
    return SimpleNamespace(**{kernel: getattr(modules[op], kernel) for op in OPS for kernel in KERNELS[op]})


def select(name: str, ops: Iterable[str] | None = None) -> None:
    """Use kernel set `name` ("fast" or "reference") from now on, for all ops or for those named, in this thread.

    Threads that are started later begin with what the main thread selected. Raises ValueError for a set or an op that
    does not exist.
    """
    if name not in SETS:
        raise ValueError(f"no kernel set named {name!r}; the sets are {', '.join(SETS)}")
    ops = list(KERNELS) if ops is None else list(ops)
    if unknown := [op for op in ops if op not in KERNELS]:
        raise ValueError(f"no kernels for {', '.join(unknown)}; there are {', '.join(KERNELS)}")
    _choose({**_thread.choice, **dict.fromkeys(ops, name)})


@contextmanager
def use(name: str, ops: Iterable[str] | None = None) -> Iterator[None]:
    """`select` for the length of a `with` block."""
    before = _thread.choice
    select(name, ops)
    try:
        yield
    finally:
        _choose(before)


def _choose(choice: dict[str, str]) -> None:
    global _initial
    _thread.choice, _thread.active = choice, {}
    if threading.current_thread() is threading.main_thread():
        _initial = choice


def prepare(rehearsal: Callable[[], object]) -> None:
    """Have the compiled kernels that `rehearsal()` calls ready, before a program begins that calls the same ones.

    Those that are not in the cache are compiled in processes of their own, side by side. What is compiled depends on
    the types of arrays, not on their sizes, so let a rehearsal be small. A kernel that it leaves out is compiled when
    it is called.
    """
    # the reference kernels must not import the compiler; under a debugger nothing is compiled ahead
    if "fast" in _thread.choice.values() and sys.gettrace() is None:
        importlib.import_module("kernels.cpu.compile_workers").prepare(rehearsal)


def describe() -> str:
    """The kernels in use as a short phrase, e.g. ``fast (attention: reference)``."""
    plain = [op for op, name in _thread.choice.items() if name == "reference"]
    if len(plain) == len(KERNELS):
        return "reference"
    return "fast" + (f" ({', '.join(plain)}: reference)" if plain else "")


def _load(array_type: type) -> SimpleNamespace:
    name = f"{array_type.__module__}.{array_type.__qualname__}".replace("cupy._core.core", "cupy")
    if name not in _FAST:
        raise TypeError(
            f"no kernels for arrays of type {array_type.__name__}; expected a NumPy array, or one of CuPy's or of the "
            "simulated device"
        )
    names = {"fast": _FAST[name], "reference": "reference"}
    chosen = {op: backend(names[choice]) for op, choice in _thread.choice.items()}
    active = chosen[OPS[0]]
    if any(other is not active for other in chosen.values()):
        active = SimpleNamespace(**{kernel: getattr(chosen[op], kernel) for op in OPS for kernel in KERNELS[op]})
    _thread.active[array_type] = active
    return active

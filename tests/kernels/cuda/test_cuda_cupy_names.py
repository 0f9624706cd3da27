"""All that the project asks of CuPy exists in the real wheel, which can be imported without a GPU.

A cupy.ndarray over host memory can be built without a driver. What CuPy refuses, it refuses with such an array too;
what it allows ends in CUDARuntimeError, at the first step that needs the device.
"""

import ast
import contextlib
import functools
from pathlib import Path

import numpy as np
import pytest

from cudasim import array as sim

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import cupy
pytestmark = pytest.mark.gpu_check

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    file
    for folder in ("cudasim", "kernels", "minigrad", "tiny_transformer_np")
    for file in (ROOT / folder).rglob("*.py")
    if "cpu" not in file.parts and not file.stem.startswith("cpu")
) + sorted((ROOT / "benchmarks").glob("gpu_*.py"))


def dotted_names(root):
    """{"RawModule", "cuda.Device", ...}: what is looked up in the module named `root`, in all files."""
    return {name for file in FILES for name in names_in(file.read_text(encoding="utf-8"), root)}


def names_in(source, root):
    found = set()
    for node in ast.walk(ast.parse(source)):
        chain = []
        while isinstance(node, ast.Attribute):
            chain.insert(0, node.attr)
            node = node.value
        if chain and isinstance(node, ast.Name) and node.id == root:
            found.add(".".join(chain))
    return found


def exists(name):
    try:
        functools.reduce(getattr, name.split("."), cupy)
    except AttributeError:
        return False
    except ImportError:  # a module of CuPy's that needs a library of CUDA's
        return True
    return True


@pytest.fixture
def device_array():
    """The function that makes a cupy.ndarray of a shape and dtype."""
    if cupy.cuda.runtime.driverGetVersion():
        return cupy.zeros

    def over_host_memory(shape, dtype=np.float32):
        host = np.zeros(shape, dtype)
        memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
        return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

    return over_host_memory


def allowed(call):
    """Whether CuPy runs it, or would on a machine with a driver."""
    try:
        call()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return "InsufficientDriver" in str(error)
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return False
    return True


def test_every_attribute_of_cupy_in_the_sources_exists():
    used = dotted_names("cupy")
    assert {"RawModule", "asarray", "cuda.Device"} <= used  # the search finds something
    assert not [name for name in used if not exists(name)]


def test_the_search_and_the_look_up_can_fail():
    assert names_in("import cupy\nx = cupy.cuda.Device().id + cupy.zeroes(3)", "cupy") == {
        "cuda", "cuda.Device", "zeroes",
    }  # fmt: skip
    assert not exists("zeroes")


def test_what_gpu_py_uses_of_cupys_objects_exists():
    for owner, attributes in {
        cupy.RawModule: ("compile", "get_function"), cupy.RawKernel: ("max_dynamic_shared_size_bytes", "__call__"),
        cupy.cuda.Device: ("compute_capability",), cupy.cuda.Event: ("done", "record"),
        cupy.cuda.Stream: ("synchronize", "wait_event", "__enter__"), cupy.ndarray: ("data", "get"),
        cupy.cuda.MemoryPointer: ("ptr", "copy_from_host_async"), cupy.cuda.PinnedMemoryPointer: ("mem", "ptr"),
    }.items():  # fmt: skip
        assert not [name for name in attributes if not hasattr(owner, name)], owner


def test_kernel_arguments_are_scalars_that_cupy_can_pass():
    from cupy._core._scalar import CScalar  # what a launch makes of each; raises for what it cannot pass

    from kernels.cuda.gpu import _NUMPY

    for scalar in (np.uint64, *_NUMPY.values()):
        CScalar(scalar(1))


def test_every_numpy_function_of_the_simulated_device_dispatches_to_cupy(device_array):
    x, ids = device_array((2, 3)), device_array((2, 3), np.int64)
    arguments = {
        "broadcast_to": (x, (4, 2, 3)), "clip": (x, 0.0, 1.0), "concatenate": ([x, x],), "stack": ([x, x],),
        "array_equal": (x, x), "expand_dims": (x, 0), "moveaxis": (x, 0, 1), "put_along_axis": (x, ids, 1.0, 1),
        "result_type": (x, 1.0), "split": (x, 3, 1), "take_along_axis": (x, ids, 1), "where": (x, x, x),
        "reshape": (x, (3, 2)), "swapaxes": (x, 0, 1), "einsum": ("ij->j", x),
    }  # fmt: skip
    names = sorted(function.__name__ for function in sim.FUNCTIONS)
    assert not [name for name in names if not hasattr(cupy, name)]
    refused = [name for name in names if not allowed(lambda name=name: getattr(np, name)(*arguments.get(name, (x,))))]
    assert not refused


def test_every_creation_function_of_the_simulated_device_takes_like(device_array):
    x = device_array((2, 3))
    arguments = {
        "arange": (3,),
        "array": ([1.0],),
        "asarray": (np.zeros(3),),
        "empty": (3,),
        "tri": (3,),
        "zeros": (3,),
    }
    assert {function.__name__ for function in sim.CREATION} <= set(arguments)
    for name in (function.__name__ for function in sim.CREATION):
        assert allowed(lambda name=name: getattr(np, name)(*arguments[name], dtype=np.float32, like=x)), name
    assert not allowed(lambda: np.full(3, 1.0, like=x))  # NumPy passes device= on, which CuPy does not know


def test_like_is_used_with_those_functions_only():
    """Where an array is made beside another, by a function that CuPy takes that way."""
    names = {function.__name__ for function in sim.CREATION}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(keyword.arg == "like" for keyword in node.keywords):
                function = ast.unparse(node.func)
                if function.startswith("np."):
                    assert function.removeprefix("np.") in names, f"{file.name}:{node.lineno}: {function}(like=)"


def test_every_ufunc_in_the_sources_exists():
    ufuncs = {name for name in dotted_names("np") if isinstance(getattr(np, name.split(".")[0], None), np.ufunc)}
    assert {"exp", "sqrt"} <= ufuncs
    assert not [name for name in ufuncs if not exists(name)]


def test_every_attribute_of_the_simulated_array_exists():
    own = {name for name in vars(sim.SimArray) if not name.startswith("_")}
    special = {name for name in vars(sim.SimArray) if name.startswith("__")} - set(vars(object)) - {
        "__slots__", "__module__", "__weakref__", "__getstate__",
    }  # fmt: skip
    assert {"T", "astype", "get"} <= own and "__getitem__" in special
    assert not [name for name in own | special if not hasattr(cupy.ndarray, name)]


def test_the_flags_of_the_simulated_array_exist(device_array):
    flags = device_array((2, 3)).T.flags
    assert (flags.c_contiguous, flags.f_contiguous) == (False, True)
    assert all(hasattr(flags, name) for name in sim.Flags._fields)


def test_what_the_simulated_array_refuses_cupy_refuses(device_array):
    x, host = device_array(4), np.zeros(4, np.float32)

    def assign():
        x[...] = host

    refused = (
        lambda: np.asarray(x), lambda: np.stack([x, host]), lambda: host[x], lambda: [1, 2][x], assign,
        lambda: np.matmul(host, device_array((4, 4))), lambda: np.maximum.reduce(x), lambda: hash(x),
    )  # fmt: skip
    for call in refused:
        assert not allowed(call)


def test_types_are_known_by_the_names_that_the_launcher_looks_for():
    from kernels.cuda.launch import _device_of_type

    assert f"{cupy.ndarray.__module__}.{cupy.ndarray.__qualname__}" == "cupy.ndarray"
    assert _device_of_type(cupy.ndarray).__name__ == "kernels.cuda.gpu"

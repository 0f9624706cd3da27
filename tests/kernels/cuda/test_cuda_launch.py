"""kernels/cuda/launch.py: what it hands to a device, and everything that it refuses before a kernel can run."""

import ctypes

import numpy as np
import pytest

from cudasim import array as sim
from kernels.cuda import launch, simulated
from kernels.cuda.launch import Kernel, Strided, signatures

SOURCE = """
#include "common.cuh"
// extern "C" __global__ void commented_out(int n) {}
extern "C" __global__ void __launch_bounds__(128, 2)
    example(scalar* __restrict__ out, const accum* __restrict__ sums, const int* ids, accum eps, int n,
            unsigned seed, unsigned long long keep_below) { }
extern "C" __global__ void other(const unsigned char *flags, double x) {}
"""


@pytest.fixture
def kernel(tmp_path):
    file = tmp_path / "example.cu"
    file.write_text(SOURCE)
    return Kernel(file, "example", ITEMS=4)


@pytest.fixture
def launched(monkeypatch):
    """What reaches the device, as (path, name, macros, grid, block, args, shared_bytes) for each launch."""
    calls = []
    monkeypatch.setattr(simulated, "launch", lambda *call: calls.append(call))
    return calls


def arguments(**changed):
    """Right ones for float32."""
    given = {
        "out": sim.asarray(np.zeros(4, np.float32)), "sums": sim.asarray(np.zeros(4, np.float32)),
        "ids": sim.asarray(np.zeros(4, np.int32)), "eps": 1e-5, "n": 4, "seed": 7, "keep_below": 2**32,
    }  # fmt: skip
    return list({**given, **changed}.values())


def test_the_signature_is_read_from_the_source(kernel):
    assert signatures(kernel.path) == {
        "example": (
            ("scalar*", "out"), ("const accum*", "sums"), ("const int*", "ids"), ("accum", "eps"), ("int", "n"),
            ("unsigned", "seed"), ("unsigned long long", "keep_below"),
        ),
        "other": (("const unsigned char*", "flags"), ("double", "x")),
    }  # fmt: skip


def test_arguments_arrive_as_the_c_types_that_are_declared(kernel, launched):
    args = arguments()
    kernel.launch(3, (32, 4), *args, dtype=np.float32, shared_bytes=64)
    path, name, macros, grid, block, packed, shared_bytes = launched.pop()
    assert (path, name, macros) == (kernel.path, "example", {"SCALAR_F32": 1, "ITEMS": 4})
    assert (grid, block, shared_bytes) == ((3, 1, 1), (32, 4, 1), 64)
    assert [type(value) for value in packed] == [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_int32, ctypes.c_uint32,
        ctypes.c_uint64,
    ]  # fmt: skip
    assert [value.value for value in packed[:3]] == [sim.pointer(array) for array in args[:3]]
    assert packed[3].value == np.float32(1e-5) and [value.value for value in packed[4:]] == [4, 7, 2**32]


@pytest.mark.parametrize(
    ("storage", "accum", "eps", "macro"),
    [
        ("float64", "float64", ctypes.c_double, "SCALAR_F64"),
        ("float16", "float32", ctypes.c_float, "SCALAR_F16"),
    ],
)
def test_scalar_and_accum_follow_the_storage_type(kernel, launched, storage, accum, eps, macro):
    args = arguments(out=sim.empty(4, storage), sums=sim.empty(4, accum))
    kernel.launch(1, 32, *args, dtype=storage)
    assert type(launched[0][5][3]) is eps and macro in launched[0][2]


def test_none_is_a_null_pointer(kernel, launched):
    kernel.launch(1, 32, *arguments(ids=None), dtype=np.float32)
    assert launched[0][5][2].value is None


def test_no_blocks_are_no_launch(kernel, launched):
    kernel.launch(0, 32, *arguments(), dtype=np.float32)
    assert not launched


def test_a_view_is_passed_on_purpose_only(kernel, launched):
    view = sim.asarray(np.zeros((3, 8), np.float32))[:, :4]
    with pytest.raises(
        ValueError, match=r"example: out \(3, 4\) is not C-contiguous; the kernel would ignore its strides"
    ):
        kernel.launch(1, 32, *arguments(out=view), dtype=np.float32)
    kernel.launch(1, 32, *arguments(out=Strided(view)), dtype=np.float32)
    assert launched[0][5][0].value == sim.pointer(view)
    assert Strided(view).strides == (8,) and Strided(view).aligned(16) and not Strided(view[:, 1:]).aligned(16)
    with pytest.raises(ValueError, match=r"the last axis of a view .* has stride 2, expected 1"):
        Strided(sim.asarray(np.zeros((3, 8), np.float32))[:, ::2])


F64 = np.zeros(4, np.float64)
REFUSED = {
    "dtype of a scalar array": ({"out": sim.asarray(F64)}, TypeError, "example: out is float64, expected float32"),
    "dtype of sums": ({"sums": sim.asarray(F64)}, TypeError, "example: sums is float64, expected float32"),
    "dtype of ids": ({"ids": sim.asarray(np.zeros(4, np.int64))}, TypeError, "ids is int64, expected int32"),
    "strided": ({"out": sim.asarray(np.zeros(8, np.float32))[::2]}, ValueError, r"out \(4,\) is not C-contiguous"),
    "transposed": ({"out": sim.asarray(np.zeros((2, 3), np.float32)).T}, ValueError, r"out \(3, 2\) is not C-cont"),
    "host array": ({"out": np.zeros(4, np.float32)}, TypeError, "must be on one device; got SimArray, ndarray"),
    "0-d host array": ({"eps": np.array(1e-5)}, TypeError, "all arrays must be on one device; got SimArray, ndarray"),
    "float for int": ({"n": 4.0}, TypeError, r"example: n is 4\.0, expected an integer \(int\)"),
    "NumPy float for int": ({"n": np.float32(4)}, TypeError, r"example: n is .*4\.0.*, expected an integer \(int\)"),
    "too large": ({"n": 2**31}, OverflowError, "example: n = 2147483648 does not fit int"),
    "negative": ({"seed": -1}, OverflowError, "example: seed = -1 does not fit unsigned"),
    "too large for 64 bits": ({"keep_below": 2**64}, OverflowError, "does not fit unsigned long long"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_an_argument_that_does_not_fit(kernel, launched, case):
    changed, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        kernel.launch(1, 32, *arguments(**changed), dtype=np.float32)
    assert not launched


def test_refuses_too_few_and_too_many_arguments(kernel, launched):
    names = r"example takes 7 arguments \(out, sums, ids, eps, n, seed, keep_below\), not "
    for args in (arguments()[:-1], [*arguments(), 0]):
        with pytest.raises(TypeError, match=names + str(len(args))):
            kernel.launch(1, 32, *args, dtype=np.float32)
    assert not launched


def test_refuses_arrays_of_two_devices_and_of_none(kernel, launched):
    class Elsewhere:
        dtype, shape = np.dtype(np.float32), (4,)

    with pytest.raises(TypeError, match="all arrays must be on one device; got Elsewhere, SimArray"):
        kernel.launch(1, 32, *arguments(sums=Elsewhere()), dtype=np.float32)
    with pytest.raises(TypeError, match="all arrays must be on one device; got none"):
        kernel.launch(1, 32, *arguments(out=None, sums=None, ids=None), dtype=np.float32)
    host = {name: np.zeros(4, dtype) for name, dtype in (("out", "f4"), ("sums", "f4"), ("ids", "i4"))}
    with pytest.raises(
        TypeError, match=r"no CUDA kernels for arrays of type numpy\.ndarray; expected cupy\.ndarray or"
    ):
        kernel.launch(1, 32, *arguments(**host), dtype=np.float32)
    assert not launched


@pytest.mark.parametrize(
    ("grid", "block"), [(1, 1025), (1, (64, 32)), (2**31, 32), ((1, 2**16), 32), ((1, 1, 2**16), 1)]
)
def test_refuses_what_no_gpu_can_launch(kernel, launched, grid, block):
    with pytest.raises(ValueError, match=r"example: a grid of .* blocks of .* threads cannot be launched"):
        kernel.launch(grid, block, *arguments(), dtype=np.float32)
    assert not launched


def test_refuses_a_storage_type_and_a_kernel_that_do_not_exist(kernel, launched):
    with pytest.raises(TypeError, match="example: no kernels for int32; there are float32, float64, float16, bfloat16"):
        kernel.launch(1, 32, *arguments(), dtype=np.int32)
    with pytest.raises(LookupError, match=r"example\.cu has no kernel 'exmaple'; it has example, other"):
        Kernel(kernel.path, "exmaple").launch(1, 32, dtype=np.float32)
    assert not launched


def test_every_kernel_of_the_project_can_be_launched():
    """Each parameter type in each .cu is one that `launch` can pack."""
    files = sorted(launch.SOURCES.glob("*/*.cu"))
    assert files
    for file in files:
        for name, parameters in signatures(file).items():
            for kind, parameter in parameters:
                bare = kind.removeprefix("const ")
                known = bare.removesuffix("*") in ({"scalar", "accum", *launch._POINTERS} if "*" in bare else
                                                   {"accum", "scalar", *launch._SCALARS})  # fmt: skip
                assert known, f"{file.name} {name}: {kind} {parameter}"

"""Matrix products inside compiled loops, by the BLAS library that NumPy carries.

BLAS on one thread, called by Numba's threads, each for a part of the product. Left to its own threads it would
bring a second pool beside Numba's, and the two would wake and fight each other hundreds of times in a training
step: on two cores that costs more than the products gain. With one pool, threads may also wait awake, ready
for the next kernel.
"""

import ctypes

import llvmlite.binding
import numpy as np
from numba import types
from numba.extending import overload
from threadpoolctl import ThreadpoolController

_NO, _YES = 111, 112  # CblasNoTrans, CblasTrans
_ROW_MAJOR = 101


def _find():
    """{dtype name: address} of cblas_sgemm and cblas_dgemm with 64-bit integers; empty where NumPy has another BLAS."""
    for library in ThreadpoolController().select(internal_api="openblas").info():
        handle = ctypes.CDLL(library["filepath"])
        for name in ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_"):
            functions = {"float32": name.format("s"), "float64": name.format("d")}
            if all(hasattr(handle, f) for f in functions.values()):
                return {dtype: ctypes.cast(getattr(handle, f), ctypes.c_void_p).value for dtype, f in functions.items()}
    return {}


_addresses = _find()
available = bool(_addresses)
for _dtype, _address in _addresses.items():
    llvmlite.binding.add_symbol(f"minigrad_gemm_{_dtype}", _address)


def _external(real):
    size = types.int64
    matrix = (types.voidptr, size)  # its first element and the distance of its rows
    signature = types.void(
        types.int32, types.int32, types.int32, size, size, size, real, *matrix, *matrix, real, *matrix
    )
    return types.ExternalFunction(f"minigrad_gemm_{real}", signature)


_gemm = {real: _external(real) for real in (types.float32, types.float64)}


def gemm(a, b, out, transpose_a, transpose_b):
    """out = a @ b, with a or b transposed where it says so; rows without gaps. For use in compiled code."""
    out[...] = (a.T if transpose_a else a) @ (b.T if transpose_b else b)


@overload(gemm)
def _gemm_compiled(a, b, out, transpose_a, transpose_b):
    call, real = _gemm[out.dtype], np.dtype(str(out.dtype)).type

    def compiled(a, b, out, transpose_a, transpose_b):
        inner = a.shape[0] if transpose_a else a.shape[1]
        call(
            np.int32(_ROW_MAJOR), np.int32(_YES if transpose_a else _NO), np.int32(_YES if transpose_b else _NO),
            out.shape[0], out.shape[1], inner, real(1), a.ctypes, a.strides[0] // a.itemsize,
            b.ctypes, b.strides[0] // b.itemsize, real(0), out.ctypes, out.strides[0] // out.itemsize,
        )  # fmt: skip

    return compiled

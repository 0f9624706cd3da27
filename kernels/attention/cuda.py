"""Attention in tiles with an online softmax (FlashAttention-2, Dao 2023, arXiv 2307.08691): memory linear in T.

Two sets of kernels with the same arguments: attention.cu for ordinary cores takes everything, attention_mma.cu for
tensor cores takes float16 and bfloat16 from compute capability 8.0 on. Backward is three kernels: delta, then dq, then
dk and dv; each element of a gradient is summed by one thread, so there are no atomics and the bits repeat.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Array, Shape
from kernels.cuda.launch import Kernel, Strided, accum_dtype, blocks, capability, empty
from kernels.philox import derive_key, keep_threshold

LARGEST_HEAD = 128
MMA_HEADS = (32, 64, 80, 96, 128)
#: (head size rounded up to a multiple of 32, bytes of `accum`) -> BR and BC of the source: what fits 48 KB
_TILES = {
    (32, 4): (64, 64), (64, 4): (64, 32), (96, 4): (32, 32), (128, 4): (32, 16),
    (32, 8): (32, 32), (64, 8): (32, 16), (96, 8): (16, 16), (128, 8): (8, 16),
}  # fmt: skip
_DELTA_THREADS = 128  # a warp each for four rows


class Variant(NamedTuple):
    """One compilation of the kernels."""

    file: str
    suffix: str  # of the kernels' names
    rows: int  # queries or keys that a block owns
    threads: int
    defines: tuple[tuple[str, int], ...] = ()  # ((macro, value), ...)


def attention_forward(
    q: Array, k: Array, v: Array, scale: float, causal: bool, p: float, seed: int, step: int, stream: int
) -> tuple[Array, Array]:
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T) in accum's dtype.

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy. ValueError for
    a head size over 128. An input whose last axis has gaps is copied first.
    """
    shape = B, H, T, _, D = _sizes(q, k, v)
    out = empty(q, (B, T, H, D)).transpose(0, 2, 1, 3)
    logsumexp = empty(q, (B, H, T), accum_dtype(q.dtype))
    inputs = [_view(x) for x in (q, k, v)]
    arguments = [*_with_strides(out), logsumexp, *_with_strides(*inputs)]
    arguments += _setting(shape, scale, causal, p, seed, step, stream)
    variant = choose(q.dtype, D, scale, capability(q), [Strided(out), *map(Strided, inputs)])
    _launch("attention_forward", variant, B * H * blocks(T, variant.rows), arguments, q.dtype)
    return out, logsumexp


def attention_backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, logsumexp: Array, scale: float, causal: bool, p: float,
    seed: int, step: int, stream: int, into: Sequence[Array] | None = None,
) -> Sequence[Array]:  # fmt: skip
    """-> dq, dk, dv, shaped like q, k, v; written into the three arrays of `into` where it is given.

    The arrays of `into` must have rows without gaps: their last axis is contiguous.
    """
    shape = B, H, T, S, D = _sizes(q, k, v)
    grads = tuple(empty(x, x.shape) for x in (q, k, v)) if into is None else tuple(into)
    _expect({"dout": dout, "out": out, "dq": grads[0]}, q.shape)
    _expect({"dk": grads[1], "dv": grads[2]}, k.shape)
    _expect({"logsumexp": logsumexp}, (B, H, T))
    dout, q, k, v, out = (_view(x) for x in (dout, q, k, v, out))
    inputs, saved = _with_strides(dout, q, k, v), [logsumexp, _delta(dout, out, shape)]
    setting = _setting(shape, scale, causal, p, seed, step, stream)
    variant = choose(q.dtype, D, scale, capability(q), [Strided(x) for x in (dout, q, k, v, *grads)])
    for name, length, outputs in (("dq", T, grads[:1]), ("dkv", S, grads[1:])):
        arguments = [*_with_strides(*outputs), *inputs, *saved, *setting]
        _launch(f"attention_backward_{name}", variant, B * H * blocks(length, variant.rows), arguments, q.dtype)
    return grads if into is None else into


def choose(dtype: np.dtype, D: int, scale: float, arch: int, views: Sequence[Strided]) -> Variant:
    """The Variant for heads of size D: tensor cores where they can be used.

    They take 16-bit storage, capability 8.0, the head sizes in MMA_HEADS, rows that begin at multiples of 16 bytes, and
    a positive scale (the maximum of the scores is taken before scaling).
    """
    fits = arch >= 80 and D in MMA_HEADS and dtype.itemsize == 2 and scale > 0
    if fits and all(view.aligned(16) for view in views):
        return Variant("attention/attention_mma.cu", "_mma", 64, 128, (("HEAD", D),))
    head, size = blocks(D, 32) * 32, accum_dtype(dtype).itemsize
    rows, cols = _TILES[head, size]
    defines = (("HEAD", head), ("BR", rows), ("BC", cols))
    return Variant("attention/attention.cu", "", rows, 128 if size == 8 else 256, defines)


def _delta(dout: Array, out: Array, shape: Shape) -> Array:
    """Sums over d of dout * out, (B, H, T)."""
    B, H, T, _, D = shape
    delta = empty(dout, (B, H, T), accum_dtype(dout.dtype))
    grid = blocks(B * H * T, _DELTA_THREADS // 32)
    kernel = _kernel("attention/attention_delta.cu", "attention_delta", ())
    arguments = [delta, *_with_strides(dout, out), H, T, D, B * H * T]
    kernel.launch(grid, _DELTA_THREADS, *arguments, dtype=dout.dtype)
    return delta


def _launch(name: str, variant: "Variant", grid: int, arguments: Sequence[Any], dtype: np.dtype) -> None:
    kernel = _kernel(variant.file, name + variant.suffix, variant.defines)
    kernel.launch(grid, variant.threads, *arguments, dtype=dtype)


@functools.cache
def _kernel(file: str, name: str, defines: tuple[tuple[str, int], ...]) -> Kernel:
    return Kernel(file, name, **dict(defines))


def _setting(shape: Shape, scale: float, causal: bool, p: float, seed: int, step: int, stream: int) -> list[float]:
    """The arguments after the arrays; key and scale of the dropout as reference.py has them."""
    _, H, T, S, D = shape
    k0, k1 = derive_key(seed, step, stream) if p else (0, 0)
    return [float(scale), int(causal), keep_threshold(p), 1.0 / (1.0 - p), k0, k1, H, T, S, D]


def _view(x: Array) -> Array:
    """x, or a copy of it if its last axis is not contiguous."""
    return x if x.shape[-1] <= 1 or x.strides[-1] == x.dtype.itemsize else x.copy()


def _with_strides(*arrays: Array) -> list[Any]:
    """For each array its pointer and its strides along b, h and t."""
    views = [Strided(x) for x in arrays]
    return [argument for view in views for argument in (view, *view.strides)]


def _sizes(q: Array, k: Array, v: Array) -> tuple[int, int, int, int, int]:
    """(B, H, T, S, D); ValueError for shapes that do not match or that the kernels do not take."""
    B, H, T, D = q.shape
    S = k.shape[2]
    _expect({"k": k, "v": v}, (B, H, S, D))
    if not 1 <= D <= LARGEST_HEAD:
        raise ValueError(f"attention on CUDA takes head sizes 1 to {LARGEST_HEAD}, not {D}; use more heads")
    if S == 0:
        raise ValueError("attention over no keys: k and v are empty")
    return B, H, T, S, D


def _expect(arrays: Mapping[str, Array], shape: Shape) -> None:
    """ValueError unless each array has this shape: beyond a smaller one the kernel would read or write."""
    for name, x in arrays.items():
        if x.shape != shape:
            raise ValueError(f"attention: {name} has shape {x.shape}, expected {shape}")

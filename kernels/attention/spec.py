"""What tests, gates and benchmarks need to know of attention: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import Bug, Gradient, Kernel, MachineCode, Sizes, Source, Variants, accum, normal, normals

_HEADS = (32, 64, 80, 96, 128)  # head sizes that are compiled; 80 for tensor cores alone


def _heads(s: Sizes, rng: np.random.Generator, dtype: np.dtype, n: int) -> np.ndarray:
    """n arrays (B, H, T, D), laid out as (B, T, n, H, D) in memory: as the heads of one product."""
    D = s.C // s.H
    return normal(rng, dtype, s.B, s.T, n, s.H, D).transpose(2, 0, 3, 1, 4)


def _setting(s: Sizes) -> tuple:
    """scale, causal, p, seed, step, stream."""
    return (s.C // s.H) ** -0.5, True, s.p, 1, 2, 3


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """q, k, v (B, H, T, D)."""
    return *_heads(s, rng, dtype, 3), *_setting(s)


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout, q, k, v, out (B, H, T, D), logsumexp (B, H, T)."""
    dout, q, k, v, out = _heads(s, rng, dtype, 5)
    # that of as many scores, independent and normal, as a query sees keys; and larger, for backward to stay small
    seen = np.log(np.arange(1, s.T + 1)) + 1.0
    logsumexp = np.broadcast_to(seen, (s.B, s.H, s.T)).astype(accum(dtype))
    return dout, q, k, v, out, logsumexp, *_setting(s)


KERNELS = (
    Kernel("attention_forward", _forward, (2.6e-6, 4.5e-15), lambda s: 2 * s.B * s.T * s.T * s.C),
    Kernel("attention_backward", _backward, (4.2e-6, 4e-15), lambda s: 5 * s.B * s.T * s.T * s.C),
)  # of the (T, T) matrix of a causal attention half counts

_QKV = normals((2, 2, 5, 3), (2, 2, 5, 3), (2, 2, 5, 3))
GRADIENTS = (
    Gradient("flash_attention", "causal", _QKV),
    Gradient("flash_attention", "dropout", _QKV,
             {"causal": False, "p": 0.3, "seed": 3, "step": 5, "stream": 7}),
    Gradient("causal_self_attention", "heads", normals((2, 5, 12)), {"n_head": 2}),
)  # fmt: skip


def _variants(arch: int) -> Variants:
    """What the launcher compiles for a compute capability."""

    def variants(dtype: np.dtype) -> list[dict[str, int]]:
        from kernels.attention.cuda import choose

        heads = (D for D in _HEADS if arch >= 80 or D % 32 == 0)
        found = (choose(dtype, D, 1.0, arch, []).defines for D in heads)
        return [dict(defines) for defines in dict.fromkeys(found)]

    return variants


_IN_REGISTERS = MachineCode(local_outside_loops=True, why="accumulators fill the registers")
_TENSOR_CORES = _IN_REGISTERS._replace(opcodes=("HMMA", "LDSM", "LDGSTS"))
_NAMES = ("attention_forward", "attention_backward_dq", "attention_backward_dkv")
SOURCES = {
    "attention.cu": Source(variants=_variants(75), kernels=dict.fromkeys(_NAMES, _IN_REGISTERS)),
    "attention_delta.cu": Source(kernels={
        "attention_delta": MachineCode("loads", threads=128, why="writes a number a row or a block"),
    }),
    "attention_mma.cu": Source(
        ("float16", "bfloat16"), oldest=80, variants=_variants(80),
        kernels={f"{name}_mma": _TENSOR_CORES for name in _NAMES},
    ),
}  # fmt: skip


def _mask_one_short(right: Callable, q: Array, k: Array, scale: float, causal: bool) -> Array:
    scores = (q @ k.swapaxes(-1, -2)) * scale
    if causal:  # a query sees one key too many
        scores[..., ~np.tri(q.shape[2], k.shape[2], 1, dtype=bool)] = -np.inf
    return scores


BUGS = (
    Bug("1 / D for 1 / sqrt(D)", "cpu", "attention_forward",
        lambda right, q, k, v, scale, *rest, **s: right(q, k, v, scale**2, *rest, **s), "flash_attention",
        "scale forgotten"),
    Bug("causal mask one key short, in both directions", "reference", "_scores", _mask_one_short, "flash_attention"),
    Bug("row sum of dout * out forgotten", "reference", "attention_backward",
        lambda right, dout, q, k, v, out, *rest, **named: right(dout, q, k, v, np.zeros_like(out), *rest, **named),
        "flash_attention", "mean not subtracted"),
)  # fmt: skip

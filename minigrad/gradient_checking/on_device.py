"""A function that computes on a device, with its inputs and outputs on the host, where gradcheck needs them."""

from collections.abc import Callable
from typing import Any

from kernels.arrays import on_host
from minigrad._tensor import Tensor, record
from minigrad.argument_types import Array
from minigrad.gradient_checking.structures import mapped
from minigrad.runtime import asarray


def on_device(fn: Callable[..., Any], device: str) -> Callable[..., Any]:
    """fn with its Tensors moved to `device` and back: "cuda" or "cuda-sim". Other arguments are passed as they are."""
    there = asarray(device)

    def placed(*inputs: Any) -> Any:
        outs = fn(*mapped(lambda x: _moved(x, there, on_host) if isinstance(x, Tensor) else x, inputs))
        return mapped(lambda out: _moved(out, on_host, there) if isinstance(out, Tensor) else out, outs)

    return placed


def _moved(x: Tensor, move: Callable[[Array], Array], back: Callable[[Array], Array]) -> Tensor:
    return record(move(x.data), (x,), moved_backward, back=back)


def moved_backward(dout: Array, back: Callable[[Array], Array]) -> Array:
    return back(dout)

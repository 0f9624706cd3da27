"""Where two versions of the same step begin to differ: python -m minigrad.compare_steps A B

A and B are settings of a step, `kernels=reference,dtype=float64,checkpoint=RUN`, or files saved with --save, by
this commit or another. The output names the first tensor, forward and then backward, that differs by more than
rounding explains. The rounding error of a tensor is measured on each side: the step is repeated with every weight
moved by one unit in the last place.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.system import cli, streams, tensors
from kernels.system.errors import UserError
from kernels.system.files import given, require_place, writing
from kernels.system.printable import brief, one_line
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array, Shape
from minigrad.debug.recorded_calls import check_mode
from minigrad.recording import gradients_aside
from tiny_transformer_np_package_check import TRAINING_STEP

_ROUNDING = 16.0  # tolerance, in units of the measured noise: another order of sums gives another sample of it
PROG = "python -m minigrad.compare_steps"
_KEY = "minigrad.trace"  # of the JSON text in a trace's metadata


@dataclass(frozen=True)
class Trace:
    """All tensors of one step, in order.

    names    "forward #3 linear in blocks.0.attn.qkv", ..., then "backward ...", then "gradient of NAME"
    arrays   one each
    noise    one number each: the largest change of the array when the weights move by one unit in the last place
    """

    names: list[str]
    arrays: list[np.ndarray]
    noise: list[float]

    def save(self, path: str | Path) -> None:
        """Write it as one safetensors file."""
        arrays = {_place(i): np.asarray(a, order="C") for i, a in enumerate(self.arrays)}
        with writing(path) as file:
            tensors.write(file, arrays, {_KEY: json.dumps({"names": self.names, "noise": self.noise})})

    @classmethod
    def load(cls, path: str | Path) -> "Trace":
        """Read what `save` wrote. UserError for anything else."""
        arrays, meta = tensors.read(path, "trace", _KEY, _check, finite=False)  # a trace of a diverged step has NaN
        return cls(meta["names"], [arrays[_place(i)] for i in range(len(meta["names"]))], meta["noise"])


def _place(i: int) -> str:
    return f"{i:06d}"


def _check(meta: dict[str, Any], header: Mapping[str, tuple[str, Shape]]) -> None:
    """UserError unless a file holds what `Trace.save` writes. header {name: (dtype, shape)}."""
    if meta.keys() != {"names", "noise"} or not all(isinstance(part, list) for part in meta.values()):
        raise UserError("expected the lists 'names' and 'noise'")
    names, noise = meta["names"], meta["noise"]
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"the name of a tensor is {brief(name)}; expected a text")
    for x in noise:
        if type(x) is not float or x < 0.0:
            raise UserError(f"the noise of a tensor is {brief(x)}; expected a number, 0.0 or more")
    if not len(names) == len(noise) == len(header) or header.keys() != {_place(i) for i in range(len(names))}:
        raise UserError(f"it has {len(names)} names, {len(noise)} numbers of noise and {len(header)} arrays")
    for name, (dtype, _) in header.items():
        if dtype not in ("F16", "F32", "F64"):
            raise UserError(f"its array {brief(name)} holds {dtype}; expected floating-point numbers")


def trace(make_loss: Callable[[], Tensor], parameters: Mapping[str, Tensor], seed: int = 0) -> Trace:
    """The Trace of one step. make_loss: no arguments -> Tensor (), deterministic; parameters: {name: Parameter}.

    Runs the step twice, the second time with weights moved by one unit in the last place. Weights and gradients are
    restored.
    """
    names, arrays = _record(make_loss, parameters)
    weights = {name: p.data for name, p in parameters.items()}
    rng = np.random.default_rng(seed)
    try:
        for p in parameters.values():
            towards = np.where(rng.random(p.shape) < 0.5, -np.inf, np.inf).astype(p.dtype)
            p.data = np.nextafter(p.data, towards)
        _, moved = _record(make_loss, parameters)
    finally:
        for name, p in parameters.items():
            p.data = weights[name]
    return Trace(names, arrays, [_largest(a - b) for a, b in zip(arrays, moved, strict=True)])


def _record(make_loss: Callable[[], Tensor], parameters: Mapping[str, Tensor]) -> tuple[list[str], list[Array]]:
    """(names, arrays) of one step."""
    with gradients_aside(list(parameters.values())):
        with check_mode():
            loss = make_loss()
        if loss.node is None:
            raise ValueError("the loss depends on no parameter: there is no step to trace")
        nodes = [node for node in reversed(graph.ancestors(loss.node)) if node.call]
        number = {node: i for i, node in enumerate(nodes)}  # ids differ from step to step
        names = [f"forward {_name(node, number)}" for node in nodes]
        arrays = [node.call.out.copy() for node in nodes]
        for node, dout, _ in graph.steps(loss.node, np.ones_like(loss.data)):
            if node in number:
                names.append(f"backward {_name(node, number)}")
                arrays.append(dout.copy())
        for name, p in parameters.items():
            if p.grad is not None:
                names.append(f"gradient of {name}")
                arrays.append(p.grad.copy())
    return names, arrays


def _name(node: graph.Node, number: Mapping[graph.Node, int]) -> str:
    return f"#{number[node]} {node.op}" + (f" in {node.module}" if node.module else "")


def first_divergence(a: Trace, b: Trace) -> str | None:
    """A line on the first tensor in which two Traces differ by more than their noise; None if there is none."""
    for i, (name, other) in enumerate(zip(a.names, b.names, strict=False)):
        if name != other:
            return f"the steps are built differently: tensor {i} is {name!r} in A and {other!r} in B"
        x, y = a.arrays[i], b.arrays[i]
        if x.shape != y.shape:
            return f"{name}: shape {x.shape} in A, {y.shape} in B"
        coarser = float(max(np.finfo(x.dtype).eps, np.finfo(y.dtype).eps))
        allowed = _ROUNDING * (a.noise[i] + b.noise[i] + coarser * max(_largest(x), _largest(y)))
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(x - y)
        error = _largest(difference)
        if x.size and not error <= allowed:
            index = np.unravel_index(int(np.argmax(difference)), x.shape)
            return (
                f"{name} {x.shape} is the first to differ: by {error:.3g} at {tuple(map(int, index))} "
                f"({float(x[index]):.8g} in A, {float(y[index]):.8g} in B); rounding explains {allowed:.3g}"
            )
    if len(a.names) != len(b.names):
        return f"the steps are built differently: A has {len(a.names)} tensors, B {len(b.names)}"
    return None


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))


def load_step(name: str) -> Callable[..., tuple[Callable[[], Tensor], dict[str, Tensor]]]:
    """The function that "MODULE:FUNCTION" names: settings -> (make_loss, {name: Parameter})."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def _trace_of(spec: str, step: str) -> Trace:
    """The Trace that a command-line argument means: a file, or settings of a step."""
    if "=" not in spec:
        return Trace.load(given(spec))
    try:
        settings = dict(pair.split("=", 1) for pair in spec.split(","))
        return trace(*load_step(step)(**settings))
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise UserError(f"{spec}: {error}") from error


@cli.command_line(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 no difference beyond rounding, 1 one was found. UserError for bad input."""
    parser = cli.Parser(prog=PROG, description=__doc__.split("\n")[0])
    parser.add_argument("a", metavar="A", help="settings, e.g. kernels=reference,dtype=float64, or a saved trace")
    parser.add_argument("b", metavar="B", nargs="?", help="the same for the other side; leave out with --save")
    parser.add_argument("--save", type=cli.path, metavar="FILE", help="save A's trace and stop")
    parser.add_argument(
        "--step", metavar="MODULE:FUNCTION", default=TRAINING_STEP,
        help="a function that takes the settings and returns (make_loss, {name: Parameter})",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if not args.b and not args.save:
        parser.error("give B to compare with, or --save FILE")
    if args.save:
        require_place(args.save)
    a = _trace_of(args.a, args.step)
    if args.save:
        a.save(args.save)
        streams.note(f"{len(a.names)} tensors saved to {args.save}")  # stdout may be the file
        return 0
    found = first_divergence(a, _trace_of(args.b, args.step))
    print(one_line(found) if found else f"no difference beyond rounding in {len(a.names)} tensors")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

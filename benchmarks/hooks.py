"""What the debugging aids cost a training step that uses none of them: python benchmarks/hooks.py

The engine as it is against the same engine with its hook lines cut out, in one process: the two are exchanged between
one step and the next, so that whatever else the machine does hits both. Printed are the medians and their ratio; and,
for the noise of it all, the same for the engine against itself.
"""

import inspect
import statistics
import sys
import time
import types
from contextlib import contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not this folder: its kernels.py is not the package

from kernels.system import cli
from minigrad import graph

tensor = sys.modules["minigrad.tensor"]  # `minigrad.tensor` is the function

#: per function, its lines that are there for watchers, hooks and check mode only
HOOK_LINES = [
    (graph.steps, '''    if watcher is not None:
        keep_arrays = True  # and so does somebody who looks
    for node in order:
        if node.hooks:
            keep_arrays = True
'''),
    (graph._perform, '''    if node.hooks:
        dout = run_hooks(node.hooks, dout)
'''),
    (graph._perform, '''    if watcher is not None:
        watcher(node, dout, None)
'''),
    (graph._perform, '''    if watcher is not None:
        watcher(node, dout, grads)
'''),
    (tensor.record, '''    if graph.keep_calls is not None and result.node is not None:
        result.node.call = graph.keep_calls(sys._getframe(1), out)
'''),
    (tensor.Tensor.accumulate_grad, '''        if self.hooks:
            grad = graph.run_hooks(self.hooks, grad)
'''),
]  # fmt: skip


def bare_code():
    """{function: its code without the hook lines}."""
    modules = {}
    for module in (graph, tensor):
        source = inspect.getsource(module)
        for function, lines in HOOK_LINES:
            if function.__module__ == module.__name__:
                if source.count(lines) != 1:
                    sys.exit(f"{function.__qualname__} no longer has these lines, correct HOOK_LINES:\n{lines}")
                source = source.replace(lines, "")
        modules[module.__name__] = types.ModuleType(module.__name__)
        modules[module.__name__].__file__ = module.__file__
        exec(compile(source, module.__file__, "exec"), vars(modules[module.__name__]))
    found = {}
    for function, _ in HOOK_LINES:
        bare = modules[function.__module__]
        for name in function.__qualname__.split("."):
            bare = getattr(bare, name)
        found[function] = bare.__code__
    return found


@contextmanager
def bare_engine(code):
    """The engine without its hook lines; code: of `bare_code()`."""
    whole = {function: function.__code__ for function in code}
    for function, bare in code.items():
        function.__code__ = bare
    try:
        yield
    finally:
        for function, before in whole.items():
            function.__code__ = before


def compare(step, first, second, pairs):
    """Seconds of a step inside each of two contexts, in pairs, each time in the other order: two lists."""
    seconds = [], []
    for number in range(-10, pairs):  # the first ten warm up
        for side in (0, 1) if number % 2 else (1, 0):
            with (first, second)[side]():
                started = time.perf_counter()
                step()
                taken = time.perf_counter() - started
            if number >= 0:
                seconds[side].append(taken)
    return seconds


@cli.command_line("hooks.py")
def main():
    parser = cli.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "default.toml"), help="model and batch to measure")
    parser.add_argument("--pairs", type=int, default=150, help="pairs of steps")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    args = parser.parse_args()
    from train_step import load_case, minigrad_step

    step = minigrad_step(*load_case(args.config), args.threads)
    code = bare_code()
    for name, other in ("without hook lines", lambda: bare_engine(code)), ("as it is, again", nullcontext):
        ours, theirs = compare(step, nullcontext, other, args.pairs)
        medians = statistics.median(ours), statistics.median(theirs)
        pairwise = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"as it is {1e3 * medians[0]:.3f} ms, {name} {1e3 * medians[1]:.3f} ms; "
            f"ratio {medians[0] / medians[1]:.4f}, median over {args.pairs} pairs {pairwise:.4f}"
        )


if __name__ == "__main__":
    sys.exit(main())

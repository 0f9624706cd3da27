"""What the debugging aids cost a training step that uses none of them: python benchmarks/debugging_overhead.py

Without an observer or a hook, each aid costs the evaluation of a condition that is false: `if node.hooks`, `if observer
is not None`. This script counts the evaluations in a step, times each condition alone, and compares the sum with the
time of the step. (The difference between engines with and without them is below the noise of a step's time.)
"""

import statistics
import sys
import time
import timeit
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import step_cases, worker
from kernels.system import cli
from minigrad import graph, runtime

#: the conditions in minigrad/graph.py and _tensor.py, and how often, for each node
A_NODE = {"node.hooks": 1, "in_place and observer is None": 1, "observer is not None": 2,
          "result.node is not None and graph.thread.record_calls is not None": 1}  # fmt: skip
A_LEAF = {"self.hooks": 1}  # for each gradient that a leaf gets
LOOPS = 100_000


def count(trainer):
    """(nodes, gradients handed to leaves) in backward of one micro-batch."""
    order = graph.ancestors(trainer.loss_of(1, 0).node)
    leaves = [parent for node in order for parent in node.parents if parent is not None]
    return len(order), sum(not isinstance(parent, graph.Node) for parent in leaves)


def seconds_of(conditions, loss, leaf):
    """The seconds that these conditions take, each evaluated as often as in a step; none of them is true."""
    names = {"node": loss.node, "self": leaf, "result": loss, "graph": graph, "observer": None, "in_place": False}

    def fastest(statement):
        return min(timeit.repeat(statement, globals=names, repeat=20, number=LOOPS)) / LOOPS

    nothing = fastest("pass")
    return sum(times * max(0.0, fastest(f"if {each}: pass") - nothing) for each, times in conditions.items())


def step_seconds(trainer, steps):
    """The median time of a step."""
    seconds = []
    for number in range(-3, steps):  # the negative ones warm up
        started = time.perf_counter()
        trainer.train_step()
        if number >= 0:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


@cli.command_line("debugging_overhead.py")
def main(argv=None):
    parser = cli.Parser(prog="debugging_overhead.py", description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=step_cases.CASES, default="small", help="model and batch to measure")
    parser.add_argument("--steps", type=int, default=50, help="steps whose median is taken")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.threads < 0:
        parser.error(f"--steps {args.steps} and --threads {args.threads}: expected at least 1 and at least 0")
    runtime.configure(threads=args.threads)
    config, training = step_cases.configs(args.case)
    trainer = worker.trainer_on_batch(config, training, *step_cases.batch(config, training))
    nodes, leaf_gradients = count(trainer)
    loss, leaf = trainer.loss_of(1, 0), next(iter(trainer.model.parameters()))
    a_node, a_leaf = (seconds_of(conditions, loss, leaf) for conditions in (A_NODE, A_LEAF))
    aids = nodes * a_node + leaf_gradients * a_leaf
    step = step_seconds(trainer, args.steps)
    print(
        f"{args.case}: {nodes} nodes and {leaf_gradients} gradients of leaves a step; conditions of the aids "
        f"{1e9 * a_node:.0f} ns a node, {1e6 * aids:.1f} us a step, "
        f"{100 * aids / step:.4f} % of its {1e3 * step:.2f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())

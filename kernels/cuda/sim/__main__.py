"""Check a CUDA kernel on a machine without a GPU: only g++ is needed.

    python -m kernels.cuda.sim check FILE.cu --kernel NAME --grid 4 --block 128 --args 'f32[1000]' i32=1000

The kernel runs once on the CPU, thread by thread. Reported with file, line, block and thread: races between threads
and between blocks, barriers that not all threads reach, accesses outside of arrays, reads of what nobody has written,
misaligned vectors. Without a fault, a table tells for each line what memory had to move.

A debugger stops inside a kernel: the compiled library carries line numbers, and a CUDA thread has a stack of its own.

    gdb -q --args python -m kernels.cuda.sim run FILE.cu --kernel NAME --grid 4 --block 128 --args ...
    (gdb) set breakpoint pending on
    (gdb) break FILE.cu:12 if sim_builtin.thread.x == 5 && sim_builtin.block.x == 0
    (gdb) run
    (gdb) print some_variable
    (gdb) print sim_builtin.thread

`run` is `check` without the checker; --debug compiles without optimisation, so that every variable can be printed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kernels.cuda import launch
from kernels.cuda.sim import arguments, build, module, traffic
from kernels.system import cli, streams
from kernels.system.errors import UserError
from kernels.system.files import require_file

_EXAMPLES = """
arguments:
  'f32[1000]'    1000 random numbers        'i32[10]%5'   10 random integers below 5
  'f32[8]=0'     eight times 0 (=range: 0, 1, 2 ...)
  'f32[8]=out'   unwritten memory, for what the kernel returns
  i32=1000       a number                   null          a null pointer
  types: f16 bf16 f32 f64 i32 u32 i64 u64 u8, and scalar, accum as --dtype says

examples:
  python -m kernels.cuda.sim check my.cu --kernel scale --grid 8 --block 128 --args 'f32[1000]=out' 'f32[1000]' i32=1000
  python -m kernels.cuda.sim check my.cu --kernel tile --grid 4,4 --block 32,8 --shared 4096 --args 'f32[4096]'
"""


PROG = "python -m kernels.cuda.sim"


@cli.command_line(PROG)
def main(argv=None):
    """The command line; returns the exit status: 0 clean, 1 a fault. UserError for what is not understood."""
    options = _parser().parse_args(argv)
    try:
        call = prepare(options)
    except build.CompileError as error:  # as many lines as g++ gives
        streams.note(f"{PROG}: {error}")
        return 2
    except OSError as error:
        if error.filename != options.file:  # but where it is compiled to
            raise
        raise UserError(cli.describe(error)) from None
    except ValueError as error:
        raise UserError(error) from None
    schedules = module.SCHEDULES if options.schedule == "all" else (options.schedule,)
    try:
        for schedule in schedules:
            results = call(schedule)
            if schedule == schedules[0]:
                expected = results
            elif wrong := [
                i for i, (a, b) in enumerate(zip(results, expected, strict=True), 1) if not np.array_equal(a, b)
            ]:
                raise module.SimError(f"argument {wrong[0]} differs when threads run in {schedule} order")
    except module.SimError as error:
        print(error)
        return 1
    print("clean" if options.command == "check" else "done")
    if options.command == "check":
        print(traffic.table(call.module.counters()))
    return 0


def prepare(options):
    """The compiled kernel with its arguments: call(schedule) runs it and returns what is in its arrays then.

    ValueError or CompileError for options that do not fit the kernel.
    """
    path = Path(options.file)
    require_file(path)
    macros = {arguments.STORAGE[options.dtype][0]: 1, **dict(_definition(text) for text in options.define)}
    kernels = build.kernels_of(path)
    name = options.kernel or kernels[0]
    if name not in kernels:
        raise ValueError(f"{path} has no kernel {name!r}; it has {', '.join(kernels)}")
    if not options.kernel and len(kernels) > 1:
        raise ValueError(f"{path} has several kernels; choose one with --kernel: {', '.join(kernels)}")
    rng = np.random.default_rng(options.seed)
    values = [arguments.parse(text, options.dtype, rng) for text in options.args]
    if (declared := launch.signatures(path).get(name)) is not None:
        arguments.check_types(values, declared, options.dtype)
    mode = "check" if options.command == "check" else "debug" if options.debug else "fast"
    return _Call(module.load(path, macros, mode), name, options, values)


class _Call:
    def __init__(self, compiled, name, options, values):
        self.module, self._name, self._options, self._values = compiled, name, options, values
        self._before = [v.array.copy() for v in values if v.array is not None]

    def __call__(self, schedule):
        arrays = [v.array for v in self._values if v.array is not None]
        for array, before in zip(arrays, self._before, strict=True):
            array[:] = before
        self.module.reset_counters()
        self.module.launch(self._name, self._options.grid, self._options.block, [v.value for v in self._values],
                           self._options.shared, schedule, self._options.seed)  # fmt: skip
        return [array.copy() for array in arrays]


def _parser():
    parser = cli.Parser(prog=PROG, description=__doc__, epilog=_EXAMPLES,
                        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("command", choices=("check", "run"), help="check: look for faults; run: only run")
    parser.add_argument("file", type=cli.path, metavar="FILE.cu")
    parser.add_argument("--kernel", metavar="NAME", help="needed if the file has several")
    parser.add_argument("--grid", type=_size, default=(1, 1, 1), metavar="X[,Y[,Z]]", help="blocks (default 1)")
    parser.add_argument("--block", type=_size, required=True, metavar="X[,Y[,Z]]", help="threads of a block")
    parser.add_argument("--args", nargs="*", default=[], metavar="ARG", help="one for each parameter, see below")
    parser.add_argument("--shared", type=int, default=0, metavar="BYTES", help="dynamic shared memory")
    parser.add_argument("--dtype", choices=arguments.STORAGE, default="f32", help="what `scalar` is (default f32)")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE", help="a macro; may be repeated")
    orders = "the order in which threads and blocks run; all: each, and compare the results"
    parser.add_argument("--schedule", choices=(*module.SCHEDULES, "all"), default="forward", help=orders)
    parser.add_argument("--seed", type=int, default=0, help="of random numbers and of the random schedule")
    parser.add_argument("--debug", action="store_true", help="with run: no optimisation, for a debugger")
    return parser


def _size(text):
    numbers = [int(number) for number in text.split(",")]
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise ValueError
    return tuple(numbers) + (1,) * (3 - len(numbers))


def _definition(text):
    name, _, value = text.partition("=")
    return name, value or "1"


if __name__ == "__main__":
    sys.exit(main())

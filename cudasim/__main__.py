"""Check a CUDA kernel on a machine without a GPU: only g++ is needed.

    python -m cudasim check FILE.cu --kernel NAME --grid 4 --block 128 --args 'f32[1000]' i32=1000

The kernel runs once on the CPU, thread by thread. Reported with file, line, block and thread: races between threads
and between blocks, barriers that not all threads reach, accesses outside of arrays, reads of memory that was never
written, misaligned vectors. Without a fault, a table tells for each line what memory had to move.

A debugger stops inside a kernel: the compiled library carries line numbers, and a CUDA thread has a stack of its own.

    gdb -q --args python -m cudasim run FILE.cu --debug --kernel NAME --grid 4 --block 128 --args ...
    (gdb) set breakpoint pending on
    (gdb) break FILE.cu:12 if sim_builtin.thread.x == 5 && sim_builtin.block.x == 0
    (gdb) run
    (gdb) print some_variable
    (gdb) print sim_builtin.thread

`run` is `check` without the checker; --debug compiles without optimisation, so that every variable can be printed.
"""

import argparse
import os
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from cudasim import argument_text, module, source, traffic

_EXAMPLES = """
arguments:
  'f32[1000]'    1000 random numbers        'i32[10]%5'   10 random integers below 5
  'f32[8]=0'     eight times 0 (=range: 0, 1, 2 ...)
  'f32[8]=out'   unwritten memory, for what the kernel returns
  i32=1000       a number                   null          a null pointer
  types: f16 bf16 f32 f64 i32 u32 i64 u64 u8, and the names that --type gives them

examples:
  python -m cudasim check my.cu --kernel scale --grid 8 --block 128 --args 'f32[1000]=out' 'f32[1000]' i32=1000
  python -m cudasim check my.cu --kernel tile --grid 4,4 --block 32,8 --shared 4096 --args 'f32[4096]'
  python -m cudasim check half.cu -I headers --define HALF=1 --type number=f16 --block 32 --args 'number[32]'
"""
PROG = "python -m cudasim"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 clean, 1 a fault, 2 a command that is not understood."""
    try:
        os.getcwd()
        options = _parser().parse_args(argv)
        return _run(options)
    except source.CompileError as error:  # as many lines as g++ gives
        return _refuse(error)
    except ValueError as error:
        return _refuse(error)
    except FileNotFoundError as error:
        if error.filename is None:  # os.getcwd
            return _refuse("the working directory has been deleted; change to another one, with `cd`")
        return _refuse(f"{error.strerror}: {_brief(error.filename)}")
    except OSError as error:
        return _refuse(f"{error.strerror}: {_brief(error.filename)}")


def _brief(path: str | Path) -> str | Path:
    """A path for a message: of a long one its beginning."""
    return f"{str(path)[:300]}..." if len(str(path)) > 300 else path


def _refuse(message: object) -> int:
    print(f"{PROG}: {message}", file=sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
    call = prepare(options)
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


def prepare(options: argparse.Namespace) -> "_Call":
    """The compiled kernel with its arguments: call(schedule) runs it and returns what is in its arrays then.

    ValueError, OSError or CompileError for options that do not fit the kernel.
    """
    path, aliases = _regular_file(options.file), dict(options.type)
    kernels = {kernel.name: kernel for kernel in source.kernels(path)}
    name = options.kernel or next(iter(kernels))
    if name not in kernels:
        raise ValueError(f"{path} has no kernel {name!r}; it has {', '.join(kernels)}")
    if not options.kernel and len(kernels) > 1:
        raise ValueError(f"{path} has several kernels; choose one with --kernel: {', '.join(kernels)}")
    rng = np.random.default_rng(options.seed)
    values = [argument_text.parse(text, aliases, rng) for text in options.args]
    argument_text.check_types(values, kernels[name].parameters, aliases)
    mode = "check" if options.command == "check" else "debug" if options.debug else "fast"
    return _Call(module.load(path, dict(options.define), mode, options.include), name, options, values)


class _Call:
    def __init__(
        self, compiled: module.Module, name: str, options: argparse.Namespace, values: list[argument_text.Argument]
    ) -> None:
        self.module, self._name, self._options, self._values = compiled, name, options, values
        self._before = [v.array.copy() for v in values if v.array is not None]

    def __call__(self, schedule: str) -> list[np.ndarray]:
        arrays = [v.array for v in self._values if v.array is not None]
        for array, before in zip(arrays, self._before, strict=True):
            array[:] = before
        self.module.reset_counters()
        self.module.launch(self._name, self._options.grid, self._options.block, [v.value for v in self._values],
                           self._options.shared, schedule, self._options.seed)  # fmt: skip
        return [array.copy() for array in arrays]


def _regular_file(text: str) -> Path:
    """The path of a source that can be read, `~` replaced by the home folder; ValueError or OSError says why not."""
    if not text:
        raise ValueError("the path is empty; give the name of a file")
    if "\0" in text:
        raise ValueError(f"the path {text!r} contains a null character; no file can have that name")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of {text!r} is not UTF-8; rename it") from None
    path = Path(os.path.expanduser(text))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a file")
    return path


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line instead of its whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_refuse(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROG, description=__doc__, epilog=_EXAMPLES, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("command", choices=("check", "run"), help="check: look for faults; run: only run")
    parser.add_argument("file", metavar="FILE.cu")
    parser.add_argument("--kernel", metavar="NAME", help="needed if the file has several")
    parser.add_argument("--grid", type=_size, default=(1, 1, 1), metavar="X[,Y[,Z]]", help="blocks (default 1)")
    parser.add_argument("--block", type=_size, required=True, metavar="X[,Y[,Z]]", help="threads of a block")
    parser.add_argument("--args", nargs="*", default=[], metavar="ARG", help="one for each parameter, see below")
    parser.add_argument("--shared", type=int, default=0, metavar="BYTES", help="dynamic shared memory")
    parser.add_argument("-I", "--include", action="append", default=[], metavar="FOLDER", help="where headers are")
    parser.add_argument("--define", action="append", default=[], type=_definition, metavar="NAME=VALUE",
                        help="a macro; may be repeated")  # fmt: skip
    parser.add_argument("--type", action="append", default=[], type=_alias, metavar="NAME=TYPE",
                        help="what a type name of the source stands for: number=f16; may be repeated")  # fmt: skip
    orders = "the order in which threads and blocks run; all: each, and compare the results"
    parser.add_argument("--schedule", choices=(*module.SCHEDULES, "all"), default="forward", help=orders)
    parser.add_argument("--seed", type=int, default=0, help="of random numbers and of the random schedule")
    parser.add_argument("--debug", action="store_true", help="with run: no optimisation, for a debugger")
    return parser


def _size(text: str) -> tuple[int, ...]:
    numbers = [int(number) for number in text.split(",")]
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise ValueError
    return tuple(numbers) + (1,) * (3 - len(numbers))


def _definition(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value or "1"


def _alias(text: str) -> tuple[str, str]:
    name, _, kind = text.partition("=")
    if kind not in argument_text.TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=TYPE with one of {' '.join(argument_text.TYPES)}")
    return name, kind


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the reader of the output, `head` perhaps, may leave
    sys.exit(main())

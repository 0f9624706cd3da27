"""What all command lines share: errors of one line, exit statuses, and commands that work as they are printed."""

import argparse
import contextlib
import functools
import importlib.metadata
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kernels.system import streams
from kernels.system.errors import DeviceError, UserError
from kernels.system.files import given
from kernels.system.printable import did_you_mean, one_line, printable
from tiny_transformer_np_package_check import DISTRIBUTION, interpreter

_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where this is one


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line instead of its whole usage.

    literal: options whose value may begin with "-": whatever follows them is theirs.
    """

    def __init__(self, literal: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self._literal = literal

    def error(self, message: str) -> NoReturn:
        fail(self.prog, message)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(self._joined(sys.argv[1:] if args is None else args), namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0], flags)}; see --help")
        for action in self._actions:  # argparse takes the value of `--prompt=--` for the mark that ends the options
            if action.nargs is None and action.default != [] and vars(parsed).get(action.dest) == []:
                setattr(parsed, action.dest, "--")
        return parsed

    def _joined(self, args: Iterable[str]) -> list[str]:
        """The arguments, with `--prompt TEXT` of a literal option as `--prompt=TEXT`."""
        joined: list[str] = []
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                return [*joined, arg, *rest]
            value = next(rest, None) if arg in self._literal else None
            joined.append(arg if value is None else f"{arg}={value}")
        return joined


def path(text: str) -> str:
    """The `type` of an argument that is a path, see `files.given`."""
    try:
        return str(given(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def complain(prog: str, message: object) -> None:
    """Print one line of the errors' stream, behind what was printed before where both go into one file."""
    with contextlib.suppress(*streams.UNWRITABLE):
        sys.stdout.flush()
    streams.note(f"{prog}: {printable(str(message))}")


def fail(prog: str, message: object, status: int = 2) -> NoReturn:
    """Print one line and leave with this exit status: 2 for what the user can put right, 1 for what went wrong."""
    complain(prog, one_line(message))
    sys.exit(status)


def command_line(prog: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a main(): its failures become one line, status 2 for what the user gave, 1 for what the system refused.

    prog: how the line begins.
    """

    def decorate(main: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(main)(lambda *args: run(prog, main, *args))

    return decorate


def run(prog: str, main: Callable[..., Any], *args: Any) -> Any:
    """main(*args) as `command_line` has it."""
    streams.prepare()
    try:
        _require_working_directory()
        return _flushed(main, *args)
    except (UserError, DeviceError) as error:
        fail(prog, error)
    except BrokenPipeError:  # whoever read our output, `head` perhaps, has had enough
        sys.exit(128 + 13)  # SIGPIPE, a name that Windows does not have
    except FloatingPointError as error:
        fail(prog, error, 1)
    except OSError as error:
        if error.filename is None and streams.refuses(sys.stdout):
            error.filename = "standard output"
        fail(prog, describe(error), 1)
    except MemoryError as error:  # NumPy's says how much was asked for
        fail(prog, f"not enough memory: {error}" if str(error) else "not enough memory", 1)
    except KeyboardInterrupt:  # outside of training, which saves first
        complain(prog, "interrupted")
        sys.exit(128 + signal.SIGINT)
    finally:
        streams.let_go(sys.stdout)
        streams.let_go(sys.stderr)


def _flushed(main: Callable[..., Any], *args: Any) -> Any:
    """main(*args), and its output where it was to go: here a failure of that is still one line."""
    try:
        status = main(*args)
    except SystemExit as left:
        if not left.code:  # --help
            sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _require_working_directory() -> None:
    """Relative paths mean nothing where it was deleted, and Python itself asks for it in many places."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working directory has been deleted; change to another one, with `cd`") from None


def describe(error: OSError) -> str:
    """What an OSError says to a person: `No space left on device: runs/a/metrics.jsonl`, and the error's notes."""
    what = error.strerror or str(error) or type(error).__name__
    where = [os.fsdecode(error.filename)] if isinstance(error.filename, (str, bytes, os.PathLike)) else []
    return "; ".join([": ".join([what, *where]), *getattr(error, "__notes__", [])])


def program(name: str) -> str:
    """How this command line calls itself in messages: by the wheel's script if it was started by that, else `name`."""
    started = Path(sys.argv[0]).stem
    return started if started.startswith("minigrad-") else name


def command(module: str, installed: str | None = None, script: str | None = None) -> str:
    """The beginning of a command that starts `module` the way this process was started.

    installed: the name of the command in the wheel, `minigrad-train`, which is used where the process was started by
    one of those; script: the checkout's script, used where that was. Else `python -m module`.
    """
    started = Path(sys.argv[0])
    if installed and started.name.startswith("minigrad-"):
        beside = started.with_name(installed)
        return installed if shutil.which(installed) else shlex.quote(str(beside))
    if script and started.name == script:
        return f"{interpreter()} {shlex.quote(str(started))}"
    words = f"{interpreter()} -m {module}"
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # found beside the script alone
        if Path.cwd() != _ROOT:
            words = f"PYTHONPATH={shlex.quote(str(_ROOT))} {words}"
    return words

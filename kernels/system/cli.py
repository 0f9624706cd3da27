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

_NEAR = 0.75  # the similarity of a misspelling; at 0.6 `--weight-tying` is near to `--weight-decay`
_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where this is one


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line instead of its whole usage.

    Flags may be spelled with "_" for "-", and switches as `--bias=False` for `--no-bias`.
    literal: options whose value may begin with "-": whatever follows them is theirs. hint: what a message says of
    arguments that are not known, the first of which is given first; "" where it has nothing to say.
    """

    def __init__(
        self, literal: Sequence[str] = (), hint: Callable[[Sequence[str]], str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self._literal, self._hint = literal, hint

    def error(self, message: str) -> NoReturn:
        fail(self.prog, message)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(self._joined(sys.argv[1:] if args is None else args), namespace)
        if unknown:
            hint = (self._hint and self._hint(unknown)) or self._near(unknown[0])
            self.error(f"unknown argument {unknown[0]}{hint}; see --help")
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
            arg = self._spelled(arg)
            value = next(rest, None) if arg in self._literal else None
            joined.append(arg if value is None else f"{arg}={value}")
        return joined

    def _spelled(self, arg: str) -> str:
        """`--batch_size=32` as `--batch-size=32`, `--bias=False` as `--no-bias`; other arguments as they are."""
        flag, equals, value = arg.partition("=")
        if not flag.startswith("--"):
            return arg
        if flag not in self._option_string_actions and flag.replace("_", "-") in self._option_string_actions:
            flag = flag.replace("_", "-")
        action = self._option_string_actions.get(flag)
        if isinstance(action, argparse.BooleanOptionalAction) and value.lower() in ("true", "false"):
            return action.option_strings[0 if value.lower() == "true" else -1]
        return f"{flag}{equals}{value}"

    def _near(self, arg: str) -> str:
        """ "; did you mean '--x'?" for a flag with almost this name, whose "--" counts for nothing."""
        flags = [flag[2:] for flag in self._option_string_actions if flag.startswith("--")]
        near = did_you_mean(arg.partition("=")[0].lstrip("-").replace("_", "-"), flags, _NEAR)
        return near.replace("'", "'--", 1) if arg.startswith("-") else ""


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

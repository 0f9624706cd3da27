"""What the command lines share: errors of one line, and exit status 2."""

import argparse
import contextlib
import os
import signal
import sys

from minigrad.device import DeviceError
from tiny_transformer_np.config import ConfigError, did_you_mean


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line instead of its whole usage."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message):
        fail(self.prog, message)

    def parse_args(self, args=None):
        parsed, unknown = self.parse_known_args(args)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0], flags)}; see --help")
        return parsed


def complain(prog, message):
    """Print one line of the errors' stream, behind what was printed before where both go into one file."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    print(f"{prog}: {message}", file=sys.stderr)


def fail(prog, message):
    """Print one line and leave with status 2."""
    complain(prog, message)
    sys.exit(2)


def run(prog, main):
    """Call main(); what the user got wrong becomes one line and status 2."""
    try:
        return main()
    except (ConfigError, DeviceError) as error:
        fail(prog, " ".join(str(error).split()))
    except KeyboardInterrupt:  # outside of training, which saves first
        complain(prog, "interrupted")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read our output, `head` perhaps, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        sys.exit(128 + signal.SIGPIPE)

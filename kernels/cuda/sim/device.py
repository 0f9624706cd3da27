"""The simulated device, as `kernels.cuda.launch` and the trainer see one; `kernels.cuda.gpu` is the real one."""

import shutil

from kernels.cuda.sim import module
from kernels.cuda.sim.array import asarray, asnumpy, empty, pointer
from kernels.system.errors import DeviceError

__all__ = ["asarray", "asnumpy", "capability", "empty", "launch", "pointer", "require", "synchronize"]

mode = "fast"  # or "check": look for races, memory that nobody wrote, accesses outside of arrays
schedule = "forward"  # the order in which blocks and threads take turns: "reversed", "random"


def launch(path, name, macros, grid, block, args, shared_bytes):
    """Run a kernel to its end. Compiles the file the first time."""
    module.load(path, macros, mode).launch(name, grid, block, args, shared_bytes, schedule)


def capability():
    """The compute capability that it stands for, as sm_80 is 80."""
    return 80


def synchronize():
    """Nothing runs behind the host's back here."""


def require():
    """DeviceError unless kernels can be compiled here."""
    if shutil.which("g++") is None:
        raise DeviceError("device 'cuda-sim' compiles the kernels with g++, which is not there: install g++ (Debian: "
                          "apt install g++), or use --device cpu")  # fmt: skip

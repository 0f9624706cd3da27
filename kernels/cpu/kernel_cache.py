"""Compiled kernels on disk, in a folder that only this account can write to: see `kernels.system.cache`.

Numba's own cache keeps an index beside the code. Processes that compile at the same time overwrite each other's, and a
file that was cut short ends every later start. Here each kernel has an entry for each signature, whole or none.
"""

import contextlib
import hashlib
import warnings
from pathlib import Path

from numba.cloudpickle import loads
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from kernels.system import cache


class KernelCache(_Cache):
    """The entries of one function, as Numba's dispatchers ask for them.

    folder: belongs to these sources and these versions of Numba and Python alone.
    """

    def __init__(self, function, folder):
        code = function.__code__
        self._name = f"{Path(code.co_filename).stem}.{function.__qualname__}-{code.co_firstlineno}"
        self._folder = Path(folder)

    @property
    def cache_path(self):
        return str(self._folder)

    def load_overload(self, sig, target_context):
        """The kernel compiled for these types, None if it is not there."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        content = cache.read(path)
        if content is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *loads(content))
        except Exception as error:  # whatever Numba finds in an entry that is not of its making: compiling is safe
            cache.say(f"{path}: {type(error).__name__}; it is compiled again")
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def save_overload(self, sig, data):
        """Keep what was compiled for these types, if there is room for it."""
        if data.library.has_dynamic_globals:
            warnings.warn(f"{self._name} holds an address of this process and cannot be cached", stacklevel=2)
            return
        cache.write(self._path(sig, data.codegen), dumps(data._reduce()))

    def _path(self, sig, codegen):
        key = repr((sig, codegen.magic_tuple()))  # names of types, and of the processor and its instructions
        return self._folder / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.kernel"

    def enable(self):
        raise NotImplementedError

    def disable(self):
        raise NotImplementedError

    def flush(self):
        raise NotImplementedError

"""Compiled kernels on disk, in a folder that only this account can write to: see `kernels.system.cache`.

Numba's own cache has an index file: processes that compile at the same time overwrite it, and after a truncated write
every later start fails. Here each kernel and signature has an entry of its own, which is complete or absent.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.cloudpickle import loads
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from kernels.cpu import compile_workers
from kernels.system import cache


class KernelCache(_Cache):
    """The entries of one function, as Numba's dispatchers ask for them.

    folder: for these sources and these versions of Numba and Python only; None: nothing is stored.
    """

    def __init__(self, function: Callable, folder: Path | None) -> None:
        self._function, self._folder = function, folder and Path(folder)
        self._name = f"{function.__module__}.{function.__qualname__}-{function.__code__.co_firstlineno}"

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The kernel for these types, from the cache or compiled by a worker now. None: compile it in this process."""
        target_context.refresh()
        entry = self._entry(sig, target_context.codegen())
        content = self._folder and cache.read(self._folder / entry)
        kernel = content and self._rebuilt(entry, content, target_context)
        if kernel:
            return kernel
        content = compile_workers.compiled(self._function, sig, entry)
        if content is None:
            return None
        if self._folder and not (self._folder / entry).exists():  # a write failed before; this one warns
            cache.write(self._folder / entry, content)
        return self._rebuilt(entry, content, target_context)

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Store what was compiled for these types, if there is disk space."""
        if data.library.has_dynamic_globals:
            warnings.warn(f"{self._name} holds an address of this process and cannot be cached", stacklevel=2)
            return
        entry = self._entry(sig, data.codegen)
        if compile_workers.is_requested(entry):
            content = dumps(data._reduce())
            compile_workers.remember(entry, content)
            if self._folder:
                cache.write(self._folder / entry, content)

    def _rebuilt(self, entry: str, content: bytes, target_context: Any) -> CompileResult | None:
        """The kernel of an entry. If Numba cannot read it: None, and the entry is removed."""
        try:
            kernel = CompileResult._rebuild(target_context, *loads(content))
        except Exception as error:  # Numba may raise anything for a damaged entry; compiling again is safe
            where = self._folder and self._folder / entry
            cache.say(f"{where or entry}: {type(error).__name__}; it is compiled again")
            if where:
                with contextlib.suppress(OSError):
                    where.unlink()
            return None
        compile_workers.remember(entry, content)
        return kernel

    def _entry(self, sig: Any, codegen: Any) -> str:
        key = repr((sig, codegen.magic_tuple()))  # names of types, and of the processor and its instructions
        return f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.kernel"

    def enable(self) -> None:
        raise NotImplementedError

    def disable(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

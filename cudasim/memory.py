"""Memory of the simulated device: host memory that is registered, poisoned when new, and guarded on both sides.

A kernel launch passes the list of allocations to the runtime; check mode also passes which bytes have been written.
"""

import bisect
import weakref
from collections.abc import Sequence
from typing import Literal

import numpy as np

ALIGNMENT = 256
#: bytes on either side of an allocation that no kernel may touch
GUARD = 256
_POISON = 0xFF  # in every byte: NaN as float64, float32, bfloat16 and float16, -1 as an integer

_live: dict[int, "Allocation"] = {}  # address -> allocation
_addresses: list[int] = []  # sorted


class Allocation:
    """address, nbytes, and `initialised`: True for all bytes, or one flag a byte."""

    def __init__(self, address: int, nbytes: int, guards: Sequence[np.ndarray]) -> None:
        self.address, self.nbytes, self._guards = address, nbytes, guards
        # none; flags() makes the array when it is needed
        self.initialised: np.ndarray | Literal[True] = np.zeros(0, np.uint8)

    def flags(self) -> np.ndarray | None:
        """One uint8 a byte, 1 where something has been written; the runtime sets them too."""
        if self.initialised is True:
            return None
        if len(self.initialised) != self.nbytes:
            self.initialised = np.zeros(self.nbytes, np.uint8)
        return self.initialised

    def intact(self) -> bool:
        """Whether nothing has been written into the guard zones."""
        return all((zone == _POISON).all() for zone in self._guards)

    def repair(self) -> None:
        for zone in self._guards:
            zone[:] = _POISON


def allocate(nbytes: int) -> np.ndarray:
    """(nbytes,) uint8 of new device memory, each byte 0xFF; live until it and all its views are gone."""
    memory = np.full(nbytes + 2 * GUARD + ALIGNMENT, _POISON, np.uint8)
    start = GUARD + -(memory.ctypes.data + GUARD) % ALIGNMENT
    address = memory.ctypes.data + start
    guards = [memory[start - GUARD : start], memory[start + nbytes : start + nbytes + GUARD]]
    # NumPy makes `memory` the base of every view, also of views of views: it lives as long as the last of them.
    # The guards are views too, so the registry holds only their addresses.
    guards = [_unowned(zone) for zone in guards]
    _live[address] = Allocation(address, nbytes, guards)
    bisect.insort(_addresses, address)
    weakref.finalize(memory, _forget, address).atexit = False
    return memory[start : start + nbytes]


def mark_written(address: int, nbytes: int) -> None:
    """Note that the host has written these bytes."""
    found = find(address)
    if found is None or nbytes == 0 or found.initialised is True:
        return
    if address == found.address and nbytes >= found.nbytes:
        found.initialised = True
    else:
        flags = found.flags()
        assert flags is not None  # not all of it was written
        flags[address - found.address :][:nbytes] = 1


def find(address: int) -> Allocation | None:
    """The live Allocation that holds this address, or None. Of one with 0 bytes: its own address."""
    at = bisect.bisect_right(_addresses, address) - 1
    if at < 0:
        return None
    found = _live[_addresses[at]]
    return found if address < found.address + max(found.nbytes, 1) else None


def live() -> list[Allocation]:
    """All live allocations, by address."""
    return [_live[address] for address in _addresses]


def _forget(address: int) -> None:
    del _live[address]
    del _addresses[bisect.bisect_left(_addresses, address)]


class _Zone:
    """An array interface over memory that it does not own."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}


def _unowned(zone: np.ndarray) -> np.ndarray:
    return np.asarray(_Zone(zone.ctypes.data, zone.nbytes))

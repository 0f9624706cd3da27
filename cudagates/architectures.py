"""How many warps of a kernel an SM (streaming multiprocessor) holds at once.

Limits: cuda/__device/arch_traits.h, a header of NVRTC's, against which a test compares them, and the CUDA C++
Programming Guide, "Technical Specifications per Compute Capability".
"""

from dataclasses import dataclass

WARP = 32
REGISTERS = 64 * 1024  # of an SM, of every architecture here
REGISTER_UNIT = 8  # the hardware allocates registers of a thread in multiples of this
WARP_UNIT = 4  # an SM has four partitions, each with a quarter of the registers


@dataclass(frozen=True)
class Architecture:
    warps: int  # an SM can hold
    blocks: int
    shared: int  # bytes of an SM
    reserved: int  # bytes of shared memory that the system takes for each block
    unit: int  # shared memory is allocated in multiples of this many bytes

    @property
    def shared_of_block(self):
        """The most shared memory that one block can ask for."""
        return self.shared - self.reserved


ARCHITECTURES = {
    75: Architecture(warps=32, blocks=16, shared=64 * 1024, reserved=0, unit=256),  # T4, RTX 20
    80: Architecture(warps=64, blocks=32, shared=164 * 1024, reserved=1024, unit=128),  # A100
    86: Architecture(warps=48, blocks=16, shared=100 * 1024, reserved=1024, unit=128),  # RTX 30, A10
    89: Architecture(warps=48, blocks=24, shared=100 * 1024, reserved=1024, unit=128),  # RTX 40, L4
    90: Architecture(warps=64, blocks=32, shared=228 * 1024, reserved=1024, unit=128),  # H100
    100: Architecture(warps=64, blocks=32, shared=228 * 1024, reserved=1024, unit=128),  # B200
    120: Architecture(warps=48, blocks=24, shared=100 * 1024, reserved=1024, unit=128),  # RTX 50
}


def resident_warps(arch, registers, shared, threads):
    """Warps on one SM at once, 0 if not even one block fits.

    registers: of a thread. shared: bytes of a block, static and dynamic. threads: of a block.
    """
    limits = ARCHITECTURES[arch]
    warps = -(-threads // WARP)
    by_registers = REGISTERS // (round_up(registers, REGISTER_UNIT) * WARP) // WARP_UNIT * WARP_UNIT // warps
    if shared > limits.shared_of_block:
        return 0
    by_shared = limits.shared // max(round_up(shared + limits.reserved, limits.unit), 1)
    return warps * min(limits.blocks, limits.warps // warps, by_registers, by_shared)


def round_up(n, unit):
    """n rounded up to a multiple of unit."""
    return -(-n // unit) * unit

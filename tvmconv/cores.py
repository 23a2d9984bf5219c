"""Cores: what bounds code on them, by LLVM's name of the CPU; for predictions and static costs.

Figures of ARM's cores are those of its software optimization guides. A53 and A7 have a datapath of
64 bits to their caches, and A7 also to its multipliers; A72 issues two vector instructions, but one
multiply-add of 128 bits, a cycle. An in-order core has nothing to hide a load or a loop's control
behind, so what is not a multiply-add counts in full there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvmconv.target import Target


@dataclass(frozen=True)
class Core:
    """Bounds of one core.

    Attributes:
        fma_per_cycle: vector multiply-adds.
        loads_per_cycle: vector loads.
        fma_latency_cycles: from a multiply-add to the next one on the same register.
        far_bytes_per_cycle: from behind the second-level cache to one core.
        near_cycles_per_byte: what a stream from the second-level cache adds to a step.
        instructions_per_cycle: of all kinds.
        instruction_cycles: what each instruction adds beside its bound, whichever it is.
        row_cycles: what a row that is staged costs beside its elements.
        prefetches: whether asking for streamed weights ahead of their use pays.
        halves: whether vectors of half the width run twice as often.
    """

    fma_per_cycle: float
    loads_per_cycle: float
    fma_latency_cycles: float
    far_bytes_per_cycle: float
    near_cycles_per_byte: float
    instructions_per_cycle: float
    instruction_cycles: float = 0.0
    row_cycles: float = 0.0
    prefetches: bool = False
    halves: bool = False


# Fitted on a Zen 5 core. Latency is four, and one more for what is not in order.
X86 = Core(2.0, 2.0, 5.0, 8.0, 0.0025, 6.0, prefetches=True)
# Two halves of 256 bits for each vector of 512.
ZEN4 = Core(1.0, 1.0, 5.0, 5.0, 0.01, 6.0, prefetches=True, halves=True)
_SMALL = Core(1.0, 1.0, 7.0, 3.0, 0.02, 3.0, instruction_cycles=0.1, row_cycles=15.0)
_WIDE = Core(2.0, 2.0, 5.0, 6.0, 0.01, 4.0, instruction_cycles=0.1, row_cycles=10.0)
_WIDEST = Core(4.0, 3.0, 5.0, 16.0, 0.005, 8.0, instruction_cycles=0.06, row_cycles=8.0)
CORES = {
    "AuthenticAMD:25": ZEN4,
    "cortex-a7": Core(0.5, 0.5, 8.0, 1.5, 0.05, 1.0, instruction_cycles=0.5, row_cycles=20.0),
    "cortex-a53": Core(1.0, 0.5, 8.0, 2.0, 0.03, 2.0, instruction_cycles=0.5, row_cycles=20.0),
    "cortex-a72": _SMALL,
    "cortex-a76": _WIDE,
    "neoverse-n1": _WIDE,
    "neoverse-v1": _WIDEST,
    "apple-a14": _WIDEST,
}
# Cores that nobody described yet.
FAMILIES = {
    "x86": X86,
    "arm": _SMALL,
    "riscv": Core(0.5, 1.0, 5.0, 2.0, 0.02, 1.0, instruction_cycles=0.5, row_cycles=20.0),
}


def core_of(target: Target) -> Core:
    """The core of a target; a middling one of its family when the table has none."""
    known = CORES.get(target.cpu_part) or CORES.get(target.mcpu)
    return known or FAMILIES.get(target.family, X86)

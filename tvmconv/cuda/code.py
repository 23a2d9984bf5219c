"""Device code of a kernel: CUDA source, and what is launched in which order.

It is what every road needs and all that it needs: the compiler makes a cubin of the source, the
launcher and the bundle's loader start the launches, and the emulator runs them on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Dim3 = tuple[int, int, int]
# PTX that is no part of any later architecture: Hopper's multiplication by warp groups.
_OF_ONE_ARCHITECTURE = ("wgmma.", "setmaxnreg.")


@dataclass(frozen=True)
class Launch:
    """One start of a ``__global__`` function.

    Attributes:
        kernel: name of the function in the source, declared ``extern "C"``.
        grid: blocks along x, y and z.
        block: threads of a block along x, y and z.
        shared_bytes: dynamic shared memory of a block; static arrays are not counted.
        args: what the function takes, in its own order: "x", "packed", "residual", "offset",
            "mask", "y", or the name of a workspace buffer. All are pointers to device memory.
    """

    kernel: str
    grid: Dim3
    block: Dim3
    shared_bytes: int
    args: tuple[str, ...]

    @property
    def threads(self) -> int:
        """Threads of one block."""
        return self.block[0] * self.block[1] * self.block[2]


@dataclass(frozen=True)
class DeviceCode:
    """Device code of one kernel's run.

    Attributes:
        source: CUDA C++ of all its functions.
        launches: in the order in which they run, each seeing what the ones before wrote; empty
            where nothing is to be computed.
        workspace: buffers between the launches, by name, with their bytes.
    """

    source: str
    launches: tuple[Launch, ...]
    workspace: tuple[tuple[str, int], ...] = ()

    @property
    def arch_suffix(self) -> str:
        """Nothing, or "a" where the source has instructions of one very architecture (sm_90a)."""
        return "a" if any(name in self.source for name in _OF_ONE_ARCHITECTURE) else ""

    @property
    def workspace_bytes(self) -> int:
        """Device memory beside the tensors, each buffer at a multiple of 256 bytes."""
        return sum(-(-size // 256) * 256 for _, size in self.workspace)

    def entry(self) -> dict[str, Any]:
        """Launches and workspace as plain values, for manifests."""
        return {"launches": [asdict(one) for one in self.launches],
                "workspace": [list(one) for one in self.workspace]}  # fmt: skip

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> DeviceCode:
        """Invert `entry`; the source is not known any more."""
        launches = tuple(
            Launch(one["kernel"], _dim3(one["grid"]), _dim3(one["block"]), one["shared_bytes"],
                   tuple(one["args"]))
            for one in entry["launches"]
        )  # fmt: skip
        return cls("", launches, tuple((name, size) for name, size in entry["workspace"]))


def _dim3(values: Sequence[int]) -> Dim3:
    x, y, z = values
    return x, y, z

"""Facts of a GPU that schedules and launches need, and which GPU this machine has."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tvmconv.errors import DeviceError, TargetError

# Threads that run in step; the same on every NVIDIA GPU.
WARP = 32


@dataclass(frozen=True)
class Gpu:
    """Limits and rates of a GPU, from the table ``[gpu]`` of a target's file.

    Attributes:
        sms: streaming multiprocessors.
        threads_per_block: most threads of a block.
        threads_per_sm: most threads that an SM holds.
        blocks_per_sm: most blocks that an SM holds.
        registers_per_sm: 32-bit registers of an SM.
        registers_per_thread: most registers of a thread.
        shared_bytes_per_block: static shared memory of a block.
        shared_bytes_per_block_optin: dynamic shared memory of a block that asks for it.
        shared_bytes_per_sm: shared memory of an SM, 1024 bytes of which each block loses.
        fp32_lanes_per_sm: float32 multiply-adds of an SM per cycle.
        fp32_gflops: peak of float32 arithmetic, two operations per multiply-add.
        tensor_fp16_gflops: peak of the tensor cores on floats of 16 bits with float32 sums, dense.
        dram_gbytes_per_s: memory bandwidth.
        async_copies: whether threads start copies to shared memory that they do not wait for
            (cp.async), as they do from sm_80 on.
    """

    sms: int
    threads_per_block: int
    threads_per_sm: int
    blocks_per_sm: int
    registers_per_sm: int
    registers_per_thread: int
    shared_bytes_per_block: int
    shared_bytes_per_block_optin: int
    shared_bytes_per_sm: int
    fp32_lanes_per_sm: int
    fp32_gflops: int
    tensor_fp16_gflops: int
    dram_gbytes_per_s: int
    async_copies: bool

    def __post_init__(self) -> None:
        """Reject what is no count, and what is no truth value."""
        if not isinstance(self.async_copies, bool):
            raise TargetError("gpu.async_copies", self.async_copies, "true or false")
        for name in (f.name for f in fields(self) if f.name != "async_copies"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TargetError(f"gpu.{name}", value, "an int >= 1")

    @property
    def cycles_per_s(self) -> float:
        """Clock that the float32 peak stands for."""
        return 1e9 * self.fp32_gflops / (2 * self.fp32_lanes_per_sm * self.sms)

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Memory bandwidth of the whole GPU per clock cycle."""
        return 1e9 * self.dram_gbytes_per_s / self.cycles_per_s


def capability() -> tuple[int, int] | None:
    """Compute capability of this machine's first GPU, (9, 0) for sm_90; None without one."""
    from tvmconv.cuda.driver import driver

    try:
        return driver().device(0).capability
    except DeviceError:
        return None


def closest(here: tuple[int, int] | None, known: tuple[str, ...]) -> str:
    """Id among ``sm_*`` whose code runs on a GPU of this compute capability, the newest such.

    Within a generation newer GPUs run what was compiled for older ones; a later generation runs it
    by way of PTX.

    Raises:
        TargetError: there is no GPU, or it is older than all of them.
    """
    if here is None:
        allowed = f"a machine with an NVIDIA GPU and its driver; or, to compile: {', '.join(known)}"
        raise TargetError("target", "cuda", allowed)
    older = [id_ for id_ in known if int(id_.removeprefix("sm_")) <= 10 * here[0] + here[1]]
    if not older:
        raise TargetError("target", f"cuda (sm_{here[0]}{here[1]})", ", ".join(known))
    return max(older, key=lambda id_: int(id_.removeprefix("sm_")))

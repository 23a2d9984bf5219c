"""Targets: what a schedule must know of a device, read from targets/<id>.toml.

A target is a description and needs no device. ``load("x86_64_v3")`` works on any machine;
``host()`` picks the best description that the running CPU satisfies.
"""

from __future__ import annotations

import ctypes
import dataclasses
import platform
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tvmconv.cross import Emulator, Toolchain
from tvmconv.cuda.arch import pick_code
from tvmconv.errors import TargetError
from tvmconv.gpu import Gpu, capability, closest
from tvmconv.host_cpu import host_cores, host_features, machine_name, this_machine

FAMILIES = ("x86", "arm", "riscv", "cuda")
FLOAT_ABIS = ("", "hard", "soft")
_SCALABLE = ("+v",)
_CPU_PART = r"0x[0-9a-f]{2}:0x[0-9a-f]{3}|[A-Za-z]+:[0-9]+"


@dataclass(frozen=True)
class Target:
    """A device as the schedules see it.

    Attributes:
        id: name of the TOML file, and what ``target=`` takes.
        family: which folder of schedules/ applies: "x86", "arm", "riscv" or "cuda".
        isa: vector instruction set, for people and for reports.
        triple: compiler triple, e.g. "x86_64-linux-gnu".
        mcpu: LLVM's name of the CPU or level.
        cpu_features: flags that the running CPU must have, as /proc/cpuinfo spells them.
        lanes: float32 values in one vector register; threads of a warp.
        registers: vector registers that one kernel can use; registers of a GPU's thread.
        fma: whether multiply and add are one instruction.
        l1_bytes: data cache per core; of a GPU's SM, shared memory included.
        l2_bytes: second-level cache per core; the whole GPU's.
        cores: cores to assume when the device itself cannot be asked; SMs.
        description: one line for ``tvmconv targets``.
        mattr: instruction sets for LLVM beyond those of mcpu ("+neon", "+v").
        mabi: LLVM's calling convention where the triple does not decide ("lp64d").
        float_abi: "hard", "soft", or empty where the triple decides.
        toolchain: what compiles C for it; without one the triple names both compilers.
        emulator: what runs it elsewhere, or None.
        cpu_part: the core that is described, as /proc/cpuinfo has it: "CPU implementer" and "CPU
            part" of ARM, "0x41:0xd08"; "vendor_id" and "cpu family" of x86, "AuthenticAMD:25". A
            library of several targets prefers the one made for its core; empty where many cores
            are meant, or the system does not tell programs.
        gpu: limits and rates of a GPU; None for processors.
        sve_bits: bits of SVE's vectors that a kernel may count on; 0 where it uses NEON.
        records_from: the target whose records serve a spec of which there are none of this one;
            empty for none.
    """

    id: str
    family: str
    isa: str
    triple: str
    mcpu: str
    cpu_features: tuple[str, ...]
    lanes: int
    registers: int
    fma: bool
    l1_bytes: int
    l2_bytes: int
    cores: int
    description: str
    mattr: tuple[str, ...] = ()
    mabi: str = ""
    float_abi: str = ""
    toolchain: Toolchain = field(default_factory=Toolchain)
    emulator: Emulator | None = None
    cpu_part: str = ""
    gpu: Gpu | None = None
    sve_bits: int = 0
    records_from: str = ""

    def __post_init__(self) -> None:
        """Reject descriptions that contradict themselves."""
        if self.family not in FAMILIES:
            raise TargetError(f"target {self.id}: family", self.family, ", ".join(FAMILIES))
        for name in ("description", "isa", "triple", "mcpu", "mabi", "cpu_part", "records_from"):
            if not isinstance(getattr(self, name), str):
                raise TargetError(f"target {self.id}: {name}", getattr(self, name), "a text")
        for name in ("cpu_features", "mattr"):
            if not all(isinstance(feature, str) for feature in getattr(self, name)):
                raise TargetError(f"target {self.id}: {name}", getattr(self, name), "texts")
        if any(feature[:1] not in ("+", "-") for feature in self.mattr):
            allowed = 'each with a sign, as in "+neon"'
            raise TargetError(f"target {self.id}: mattr", self.mattr, allowed)
        if self.cpu_part and not re.fullmatch(_CPU_PART, self.cpu_part):
            allowed = '"0x41:0xd08" or "AuthenticAMD:25", as in /proc/cpuinfo'
            raise TargetError(f"target {self.id}: cpu_part", self.cpu_part, allowed)
        if self.float_abi not in FLOAT_ABIS:
            allowed = ", ".join(map(repr, FLOAT_ABIS))
            raise TargetError(f"target {self.id}: float_abi", self.float_abi, allowed)
        if not isinstance(self.fma, bool):
            raise TargetError(f"target {self.id}: fma", self.fma, "true or false")
        for name in ("lanes", "registers", "l1_bytes", "l2_bytes", "cores"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TargetError(f"target {self.id}: {name}", value, "an int >= 1")
        if self.sve_bits and self.sve_bits != 32 * self.lanes:
            allowed = f"0 or {32 * self.lanes}: {self.lanes} lanes of 32 bits"
            raise TargetError(f"target {self.id}: sve_bits", self.sve_bits, allowed)
        if self.lanes & (self.lanes - 1):
            raise TargetError(f"target {self.id}: lanes", self.lanes, "a power of two")
        if (self.gpu is not None) != (self.family == "cuda"):
            allowed = "a table exactly where the family is cuda"
            raise TargetError(f"target {self.id}: gpu", self.gpu, allowed)

    def tvm(self, *, scalable: bool = True) -> dict[str, Any]:
        """The dictionary that ``tvm.target.Target`` takes.

        Without `scalable` it hides that RISC-V has vectors: TVM takes loops of a fixed number of
        lanes for loops over scalable vectors there, and makes scalar code of them. LLVM needs no
        such thing, so code generation is told the truth.
        """
        if self.gpu is not None:
            return {
                "kind": "cuda",
                "arch": self.mcpu,
                "thread_warp_size": self.lanes,
                "max_num_threads": self.gpu.threads_per_block,
                "max_threads_per_block": self.gpu.threads_per_block,
                "max_shared_memory_per_block": self.gpu.shared_bytes_per_block_optin,
                "registers_per_block": self.gpu.registers_per_sm,
            }
        found: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}
        attributes = [a for a in self.mattr if scalable or a not in _SCALABLE]
        if attributes:
            found["mattr"] = attributes
        if self.mabi:
            found["mabi"] = self.mabi
        if self.float_abi:
            found["mfloat-abi"] = self.float_abi
        if self.sve_bits:
            # LLVM's vectors of as many lanes are then SVE's, under predicates of that length:
            # longer registers compute the same.
            found["cl-opt"] = [f"-aarch64-sve-vector-bits-min:uint={self.sve_bits}"]
        if self.machine.startswith("thumb"):
            found["vector-width"] = 64  # or TVM would warn that it does not know
        return found

    @property
    def machine(self) -> str:
        """Processor as ``uname -m`` names it: "x86_64", "aarch64", "armv7l", "riscv64", ..."""
        return machine_name(self.triple.split("-")[0])

    @property
    def core(self) -> int:
        """`cpu_part` as the C runtime compares it; 0 for none.

        ARM's implementer << 16 | part, x86's first letter of the vendor << 16 | family.
        """
        maker, _, part = self.cpu_part.partition(":")
        if not part:
            return 0
        number = int(maker, 16) if maker.startswith("0x") else ord(maker[0])
        return number << 16 | int(part, 0)

    @property
    def record_ids(self) -> tuple[str, ...]:
        """Targets whose records serve this one, its own first."""
        return (self.id, self.records_from) if self.records_from else (self.id,)

    @property
    def masks(self) -> bool:
        """Whether masked vectors are worth writing; elsewhere LLVM tests and moves lane by lane."""
        return self.machine == "x86_64"

    @property
    def lanes_multiply(self) -> bool:
        """Whether a multiply-add takes one lane of a vector as its factor for nothing.

        SVE's takes one lane of each 128 bits, which is no broadcast.
        """
        return self.machine == "aarch64" and not self.sve_bits

    @property
    def pointer_bits(self) -> int:
        """64 or 32."""
        return 64 if self.machine.endswith("64") else 32

    @property
    def system(self) -> str:
        """Operating system as ``sys.platform`` names it: "linux", "darwin"; "none" for firmware."""
        for word, system in (("linux", "linux"), ("apple", "darwin")):
            if word in self.triple:
                return system
        return "none"

    @property
    def missing_features(self) -> tuple[str, ...]:
        """CPU flags of this target that the running machine lacks; empty when it can run it."""
        return tuple(f for f in self.cpu_features if f not in host_features())

    @property
    def runs_here(self) -> bool:
        """True when kernels for this target can run in this process, or on its machine's GPU."""
        if self.gpu is not None:
            here = capability()
            return here is not None and pick_code([self.isa], here) is not None
        return self.is_this_machine and not self.missing_features

    @property
    def is_this_machine(self) -> bool:
        """True when processor and system are those of this process, whatever the features."""
        here = this_machine(), ctypes.sizeof(ctypes.c_void_p) * 8, sys.platform
        # A 32-bit process on a 64-bit ARM system sees the name of the system's processor.
        machines = {self.machine, "aarch64"} if self.machine == "armv7l" else {self.machine}
        return here[0] in machines and here[1:] == (self.pointer_bits, self.system)


def ids() -> tuple[str, ...]:
    """Ids of all targets that ship, in order."""
    files = resources.files("tvmconv.targets").iterdir()
    return tuple(sorted(Path(f.name).stem for f in files if f.name.endswith(".toml")))


def load(target: str | Target = "host") -> Target:
    """The target of an id; of this machine for "host", of its GPU for "cuda".

    Raises:
        TargetError: when there is no such target or its file has wrong fields.
    """
    if isinstance(target, Target):
        return target
    if target == "host":
        return host()
    if target == "cuda":
        return _described(closest(capability(), tuple(i for i in ids() if i.startswith("sm_"))))
    if target not in ids():
        raise TargetError("target", target, ", ".join(("host", "cuda", *ids())))
    return _described(target)


@cache
def _described(target_id: str) -> Target:
    text = (resources.files("tvmconv.targets") / f"{target_id}.toml").read_text(encoding="utf-8")
    return from_toml(target_id, text)


def from_toml(target_id: str, text: str) -> Target:
    """Parse a description; unknown and missing keys are named in the error."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"target {target_id}: not valid TOML: {error}") from error
    where = f"target {target_id}"
    tables: dict[str, Any] = {
        name: _table(f"{where}: {name}", data.pop(name), kind)
        for name, kind in _TABLES.items()
        if name in data
    }
    values = _fields(f"{where}: ", data, Target, {"id", *_TABLES})
    # Nothing compiles C for a GPU alone.
    compilers = Toolchain() if "gpu" in tables else Toolchain(data["triple"], data["triple"])
    tables.setdefault("toolchain", compilers)
    return Target(id=target_id, **values, **tables)


_TABLES: dict[str, type] = {"toolchain": Toolchain, "emulator": Emulator, "gpu": Gpu}


def _table(where: str, data: Any, kind: type) -> Any:
    if not isinstance(data, dict):
        raise TargetError(where, data, "a table")
    values = _fields(f"{where}.", data, kind, set())
    for name, value in values.items() if kind is not Gpu else ():
        texts = value if name.endswith("_flags") else (value,)
        if not all(isinstance(text, str) for text in texts):
            raise TargetError(f"{where}.{name}", value, "a text, or texts where it is a list")
    return kind(**values)


def _fields(where: str, data: Mapping[str, Any], kind: type, apart: set[str]) -> dict[str, Any]:
    """The values of a dataclass from a table, lists as tuples."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in apart}
    required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if not required <= set(data) <= set(fields):
        optional = sorted(set(fields) - required)
        allowed = ", ".join([*sorted(required), *(f"{name} (optional)" for name in optional)])
        raise TargetError(f"{where}keys", sorted(data), allowed)
    values = {}
    for name, value in data.items():
        if fields[name].type == "tuple[str, ...]" and not isinstance(value, list):
            raise TargetError(f"{where}{name}", value, "a list of texts")
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


@cache
def host() -> Target:
    """The widest target whose CPU features are all present, and among those the most capable.

    Of those that are alike, the one made for a core of this machine, else one for any core.

    Raises:
        TargetError: when no description fits this machine.
    """
    fitting = [t for t in map(load, ids()) if t.gpu is None and t.runs_here]
    if not fitting:
        raise TargetError("target", f"host ({platform.machine()})", ", ".join(ids()))
    parts = host_cores()

    def rank(t: Target) -> tuple[int, int, bool, int, bool, bool]:
        return (
            t.lanes,
            t.registers,
            t.fma,
            len(t.cpu_features),
            t.cpu_part in parts,
            not t.cpu_part,
        )

    return max(fitting, key=rank)

"""Targets: what a schedule must know of a device, read from targets/<id>.toml.

A target is a description and needs no device. ``load("x86_64_v3")`` works on any machine;
``host()`` picks the best description that the running CPU satisfies.
"""

from __future__ import annotations

import dataclasses
import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tvmconv.errors import TargetError

FAMILIES = ("x86", "arm", "riscv", "cuda")


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
        lanes: float32 values in one vector register.
        registers: vector registers that one kernel can use.
        fma: whether multiply and add are one instruction.
        l1_bytes: data cache per core.
        l2_bytes: second-level cache per core.
        cores: cores to assume when the device itself cannot be asked.
        description: one line for ``tvmconv targets``.
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

    def __post_init__(self) -> None:
        """Reject descriptions that contradict themselves."""
        if self.family not in FAMILIES:
            raise TargetError(f"target {self.id}: family", self.family, ", ".join(FAMILIES))
        for name in ("description", "isa", "triple", "mcpu"):
            if not isinstance(getattr(self, name), str):
                raise TargetError(f"target {self.id}: {name}", getattr(self, name), "a text")
        if not all(isinstance(feature, str) for feature in self.cpu_features):
            raise TargetError(f"target {self.id}: cpu_features", self.cpu_features, "texts")
        if not isinstance(self.fma, bool):
            raise TargetError(f"target {self.id}: fma", self.fma, "true or false")
        for name in ("lanes", "registers", "l1_bytes", "l2_bytes", "cores"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TargetError(f"target {self.id}: {name}", value, "an int >= 1")
        if self.lanes & (self.lanes - 1):
            raise TargetError(f"target {self.id}: lanes", self.lanes, "a power of two")

    def tvm(self) -> dict[str, Any]:
        """The dictionary that ``tvm.target.Target`` takes."""
        return {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}

    @property
    def missing_features(self) -> tuple[str, ...]:
        """CPU flags of this target that the running machine lacks; empty when it can run it."""
        return tuple(f for f in self.cpu_features if f not in host_features())

    @property
    def runs_here(self) -> bool:
        """True when kernels for this target can run in this process."""
        return self.family == "x86" and _is_x86() and not self.missing_features


def ids() -> tuple[str, ...]:
    """Ids of all targets that ship, in order."""
    files = resources.files("tvmconv.targets").iterdir()
    return tuple(sorted(Path(f.name).stem for f in files if f.name.endswith(".toml")))


@cache
def load(target: str | Target = "host") -> Target:
    """The target of an id, or the best one for this machine when the id is "host".

    Raises:
        TargetError: when there is no such target or its file has wrong fields.
    """
    if isinstance(target, Target):
        return target
    if target == "host":
        return host()
    if target not in ids():
        raise TargetError("target", target, ", ".join(("host", *ids())))
    text = (resources.files("tvmconv.targets") / f"{target}.toml").read_text(encoding="utf-8")
    return from_toml(target, text)


def from_toml(target_id: str, text: str) -> Target:
    """Parse a description; unknown and missing keys are named in the error."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"target {target_id}: not valid TOML: {error}") from error
    names = {f.name for f in dataclasses.fields(Target)} - {"id"}
    if set(data) != names:
        raise TargetError(f"target {target_id}: keys", sorted(data), ", ".join(sorted(names)))
    features = data["cpu_features"]
    if not isinstance(features, list):
        raise TargetError(f"target {target_id}: cpu_features", features, "a list of texts")
    data["cpu_features"] = tuple(features)
    return Target(id=target_id, **data)


@cache
def host() -> Target:
    """The widest target of this family whose CPU features are all present.

    Raises:
        TargetError: when no description fits this machine.
    """
    fitting = [t for t in map(load, ids()) if t.runs_here]
    if not fitting:
        raise TargetError("target", f"host ({platform.machine()})", ", ".join(ids()))
    return max(fitting, key=lambda t: (t.lanes, t.registers, t.fma))


@cache
def host_features() -> frozenset[str]:
    """CPU flags of the running machine; empty where /proc/cpuinfo does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(flags.split(":", 1)[1].split())


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")

"""The processor that this program runs on, as Linux tells: its name, its features, its cores."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

# What platform.machine() says, and what triples say, of the same processor.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "armv7": "armv7l"}


@cache
def host_features() -> frozenset[str]:
    """CPU flags of the running machine; empty where /proc/cpuinfo does not tell."""
    return features_of(_cpuinfo()) | _sve_length()


@cache
def host_cores() -> frozenset[str]:
    """The kinds of cores of the running machine, as ``Target.cpu_part``; empty where unknown."""
    return cores_of(_cpuinfo())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def cores_of(cpuinfo: str) -> frozenset[str]:
    """The kinds of cores in the text of /proc/cpuinfo: ARM's "0x41:0xd08", "AuthenticAMD:25"."""
    makers = re.findall(r"^(?:CPU implementer|vendor_id)\s*: (\w+)$", cpuinfo, re.M)
    parts = re.findall(r"^(?:CPU part|cpu family)\s*: (\w+)$", cpuinfo, re.M)
    return frozenset(f"{maker}:{part}" for maker, part in zip(makers, parts, strict=False))


def _sve_length() -> frozenset[str]:
    """What /proc/cpuinfo does not tell of SVE: vectors of 256 bits or more."""
    try:
        length = int(Path("/proc/sys/abi/sve_default_vector_length").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset({"sve256"} if length >= 32 else ())


def features_of(cpuinfo: str) -> frozenset[str]:
    """CPU flags in the text of /proc/cpuinfo; RISC-V's letters as "rv_f", "rv_d", ..."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
        if key.strip() == "isa":
            letters = value.strip().removeprefix("rv64").partition("_")[0]
            return frozenset(f"rv_{letter}" for letter in letters.replace("g", "imafd"))
    return frozenset()


def this_machine() -> str:
    """The running processor, as ``Target.machine`` names it."""
    return machine_name(platform.machine().lower())


def machine_name(name: str) -> str:
    """One name for a processor that goes by several: "aarch64" for "arm64"."""
    return _MACHINES.get(name, name)

"""What a measurement was taken on; printed and stored beside every result."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "numpy")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Machine:
    """The machine and the software of one run."""

    cpu: str
    cores: int
    isa: str
    governor: str
    load: float
    threads: int
    system: str
    python: str
    versions: tuple[tuple[str, str], ...]
    date: str

    @classmethod
    def here(cls, threads: int, packages: Iterable[str] = ()) -> "Machine":
        """Describe this machine.

        Args:
            threads: what the kernels may use.
            packages: distributions whose versions matter, beside our own and its dependencies'.
        """
        cpuinfo = _read(Path("/proc/cpuinfo"))
        listed = dict.fromkeys((*PACKAGES, *packages))
        return cls(
            cpu=_cpu_name(cpuinfo),
            cores=len(os.sched_getaffinity(0)),
            isa=_widest_isa(cpuinfo),
            governor=_read(_GOVERNOR).strip() or "not visible",
            load=round(os.getloadavg()[0], 2),
            threads=threads,
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            versions=(
                ("tvmconv", _own_version()),
                *((p, _version(p)) for p in listed),
            ),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes figures from this machine doubtful, in words."""
        found = []
        if self.load > self.cores / 2:
            found.append(f"the load was {self.load} on {self.cores} cores before the run")
        if self.governor not in ("not visible", "performance"):
            found.append(f"the CPU governor is {self.governor!r}, not 'performance'")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"versions": dict(self.versions), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Machine":
        """Read what `as_dict` gave."""
        given = {f.name: content[f.name] for f in fields(cls)}
        return cls(**given | {"versions": tuple(content["versions"].items())})

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions)
        return (
            f"{self.cpu}, {self.cores} cores ({self.isa}), threads {self.threads}, "
            f"governor {self.governor}, load {self.load}; {versions}"
        )


def _read(path: Path) -> str:
    """The text of a file of the system, or nothing where it is missing."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpu_name(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _widest_isa(cpuinfo: str) -> str:
    """The widest vector extension among the flags, as people call it."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "sse4_2": "SSE4.2", "asimd": "NEON"}
    return next((name for flag, name in names.items() if flag in flags), "unknown")


def _own_version() -> str:
    from tvmconv import __version__

    return __version__


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

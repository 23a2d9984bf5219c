"""What a device says of itself, and whether it is the target's kind of machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tvmconv import target as targets
from tvmconv.errors import WrongDevice
from tvmconv.target import Target


@dataclass(frozen=True)
class Facts:
    """A device, as probe.c describes it.

    Attributes:
        machine: as ``uname -m`` says.
        system: name and version of the kernel.
        model: the board's name, or the processor's; may be empty.
        cores: that programs may use.
        core: as ``Target.core``, 0 when unknown.
        missing: instruction sets of the target that it lacks.
    """

    machine: str
    system: str
    model: str
    cores: int
    core: int
    missing: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Facts:
        """Read probe.c's lines."""
        pairs = (line.partition(" ") for line in text.splitlines())
        said = {name: value.strip(" \0") for name, _, value in pairs}
        return cls(
            machine=said["machine"],
            system=said["system"],
            model=said["model"],
            cores=int(said["cores"]),
            core=int(said["core"], 16),
            missing=tuple(said["missing"].split()),
        )

    @property
    def label(self) -> str:
        """The device in records: the same for boards of one kind, whatever address and revision."""
        return re.sub(r" Rev [\d.]+$", "", self.model) or f"{self.machine} {self.core:#x}"

    def check(self, name: str, target: Target) -> None:
        """Make sure that it can run a target's code.

        Raises:
            WrongDevice: it lacks an instruction set.
        """
        if self.missing:
            lacks = f"{name} ({self.label}) lacks {', '.join(self.missing)}"
            fitting = _fitting(target.machine, self.missing)
            raise WrongDevice(f"{lacks}, which {target.id} needs{fitting}")


def check_alike(facts: Sequence[Facts], names: Sequence[str]) -> str:
    """The label of devices of one kind.

    Raises:
        WrongDevice: they differ, and so would their times.
    """
    first = facts[0].label
    for one, name in zip(facts, names, strict=True):
        if one.label != first:
            raise WrongDevice(
                f"{names[0]} is {first!r} and {name} is {one.label!r}: their times would not "
                "compare; tune boards of one kind at a time"
            )
    return first


def of_another_machine(name: str, found: str, target: Target) -> WrongDevice:
    """The error for a device that cannot start the target's programs at all."""
    fitting = _fitting(found, ())
    return WrongDevice(f"{name} is {found}; {target.id} needs {target.machine}{fitting}")


def _fitting(machine: str, missing: Sequence[str]) -> str:
    known = [targets.load(target_id) for target_id in targets.ids()]
    fitting = [
        one.id
        for one in known
        if one.machine == machine and one.system == "linux"
        if not set(missing) & set(one.cpu_features)
    ]
    return f" (targets for it: {', '.join(fitting)})" if fitting else ""

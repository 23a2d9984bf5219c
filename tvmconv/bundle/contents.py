"""What goes into a bundle: convolutions, each compiled for every target, in order of preference."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tvmconv.errors import ArgumentError
from tvmconv.runtime.dispatch import Dispatched, TargetCode

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.target import Target

HOSTED: Final = "hosted"
STATIC: Final = "static"
FORMATS: Final = (HOSTED, STATIC)


@dataclass(frozen=True)
class Convolution:
    """One convolution of a bundle.

    Attributes:
        symbol: of its public C functions.
        kernels: one per target, in the order of the bundle's targets.
    """

    symbol: str
    kernels: tuple[Kernel, ...]

    @property
    def packed_elems(self) -> int:
        """Float32 values that hold the packed weights of any target."""
        return max(kernel.packed_elems for kernel in self.kernels)

    @property
    def dispatched(self) -> Dispatched:
        """The same for the generator of the C functions."""
        return Dispatched(self.symbol, tuple(kernel.c_symbol for kernel in self.kernels))


@dataclass(frozen=True)
class Library:
    """The libraries of one kind of machine.

    Attributes:
        machine: as ``Target.machine``.
        system: as ``Target.system``.
        folder: in the bundle.
        targets: which targets they hold, as indices.
    """

    machine: str
    system: str
    folder: str
    targets: tuple[int, ...]

    @property
    def suffix(self) -> str:
        """What names of shared libraries end in there."""
        return ".dylib" if self.system == "darwin" else ".so"

    def shared(self, name: str) -> str:
        """Path of the shared library of a bundle of this name."""
        return f"{self.folder}/lib{name}{self.suffix}"


@dataclass(frozen=True)
class Contents:
    """Everything that a bundle holds.

    Attributes:
        targets: those of one machine together, the most demanding first.
        convolutions: in the order in which they were given.
    """

    targets: tuple[Target, ...]
    convolutions: tuple[Convolution, ...]

    @property
    def is_cuda(self) -> bool:
        """Whether everything is for GPUs."""
        return all(target.gpu is not None for target in self.targets)

    @property
    def target_codes(self) -> tuple[TargetCode, ...]:
        """The targets for the generator of the C functions."""
        return tuple(
            TargetCode(t.id, t.machine, t.system, t.cpu_features, t.core) for t in self.targets
        )

    @property
    def libraries(self) -> tuple[Library, ...]:
        """One for each kind of machine."""
        found: dict[tuple[str, str], list[int]] = {}
        for i, target in enumerate(self.targets):
            found.setdefault((target.machine, target.system), []).append(i)
        return tuple(
            Library(machine, system, f"lib/{machine}-{system}" if len(found) > 1 else "lib", (*at,))
            for (machine, system), at in found.items()
        )


def arrange(kernels: Sequence[Kernel]) -> Contents:
    """Sort kernels into convolutions and targets.

    Raises:
        ArgumentError: none, one twice, or a convolution that lacks a target that others have.
    """
    if not kernels:
        raise ArgumentError("kernels", [], "at least one kernel")
    targets = best_first([kernel.target for kernel in kernels])
    by_spec: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        others = by_spec.setdefault(str(kernel.spec), [])
        if kernel.symbol in [other.symbol for other in others]:
            raise ArgumentError("kernels", f"{kernel.symbol} twice", "each kernel once")
        others.append(kernel)
    if len(targets) == 1:
        each = tuple(Convolution(kernel.symbol, (kernel,)) for kernel in kernels)
        return Contents(targets, each)
    return Contents(targets, tuple(_convolution(s, k, targets) for s, k in by_spec.items()))


def _convolution(spec: str, kernels: Sequence[Kernel], targets: tuple[Target, ...]) -> Convolution:
    by_target = {kernel.target.id: kernel for kernel in kernels}
    if len(by_target) != len(kernels) or len(kernels) != len(targets):
        allowed = f"one kernel for each of {', '.join(t.id for t in targets)}"
        given = f"{spec} for {', '.join(k.target.id for k in kernels)}"
        raise ArgumentError("kernels", given, allowed)
    ordered = tuple(by_target[target.id] for target in targets)
    if len({kernel.threads for kernel in ordered}) != 1:
        given = ", ".join(f"{k.threads} for {k.target.id}" for k in ordered)
        raise ArgumentError(f"threads of {spec}", given, "the same for every target")
    # As readable as a kernel's own symbol, and as different where anything differs.
    readable = ordered[0].symbol.rpartition("_")[0]
    key = "|".join(kernel.symbol for kernel in ordered)
    return Convolution(f"{readable}_{hashlib.sha256(key.encode()).hexdigest()[:8]}", ordered)


def best_first(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets by machine, and there the most demanding first; each once.

    Of those that demand the same, one that was made for no particular core goes before the others,
    which are taken on their own cores whatever the order.
    """
    given = {target.id: target for target in targets}
    machines = list(dict.fromkeys((t.machine, t.system) for t in given.values()))

    def order(t: Target) -> tuple[int, int, int, bool, int, bool, int]:
        machine = machines.index((t.machine, t.system))
        newest = -int(re.sub(r"\D", "", t.isa)) if t.gpu is not None else 0
        return (machine, -t.lanes, -t.registers, not t.fma, -len(t.cpu_features), t.cpu_part != "",
                newest)  # fmt: skip

    return tuple(sorted(given.values(), key=order))

"""The errors that tvmconv raises; `except TvmconvError` catches all of them.

An error either carries one message, or names an argument, what was given for it and what is
allowed: ``SpecError("stride", 0, "an int >= 1 or one per axis (2)")`` reads
``stride: got 0; allowed: an int >= 1 or one per axis (2)``.
"""

from __future__ import annotations

from typing import Final


class _Missing:
    """Marks that no value was given, where None is a value."""


_MISSING: Final = _Missing()


class TvmconvError(Exception):
    """Base of every error that tvmconv raises on purpose.

    Attributes:
        argument: name of the argument at fault, or the whole message when it is about none.
        given: the value that was given, None when there is none to show.
        allowed: what would have been accepted, in words; empty when there is none to state.
    """

    def __init__(self, argument: str, given: object = _MISSING, allowed: str = "") -> None:
        """Take one message alone, or an argument's name, its value and what is allowed."""
        # Passing every part on keeps `args` complete, which is what pickle rebuilds errors from.
        if isinstance(given, _Missing):
            super().__init__(argument)
            self.message = argument
        else:
            super().__init__(argument, given, allowed)
            self.message = f"{argument}: got {given!r}; allowed: {allowed}"
        self.argument = argument
        self.given = None if isinstance(given, _Missing) else given
        self.allowed = allowed

    def __str__(self) -> str:
        """One line for people."""
        return self.message


class SpecError(TvmconvError, ValueError):
    """A convolution that cannot exist; raised when the spec is made."""


class ArgumentError(TvmconvError, ValueError, TypeError):
    """A tensor or argument that does not fit, found when a call is made."""


class UnsupportedSpec(TvmconvError):
    """A legal convolution that this algorithm, target or operation does not cover."""


class InvalidConfig(TvmconvError):
    """A schedule configuration that does not apply to this spec and target."""


class TargetError(TvmconvError):
    """An unknown target, or a target description that contradicts itself."""


class BuildFailed(TvmconvError):
    """The compiler or the linker refused what it was given."""


class BundleError(TvmconvError):
    """A bundle that is truncated, altered, or made for another machine."""


class RecordsError(TvmconvError):
    """A records file, or a shipped cost model, that cannot be read or written."""


class Mismatch(TvmconvError):
    """Results that differ by more than the stated bound."""


class ProgramFailed(TvmconvError):
    """A program with kernels that ended badly: by a signal, out of time, or with an error code."""


class DeviceFault(ProgramFailed):
    """Device code that a GPU would refuse, or that leaves its answer to chance.

    Attributes:
        kind: "bounds", "misaligned", "race", "async", "divergence", "deadlock" or "launch".
    """

    def __init__(self, kind: str, text: str) -> None:
        """Take what it is in one word, and in a sentence that says where."""
        super().__init__(text)
        self.args = (kind, text)
        self.kind = kind


class EmulationGap(TvmconvError):
    """Device code with something that the emulator has no model for, such as an instruction."""


class EnvironmentProblem(TvmconvError):
    """The machine lacks something, such as a C compiler or a fitting pair of TVM and its FFI."""


class DeviceError(TvmconvError):
    """A GPU or a board that is not there, runs no code of this kind, has no memory, or failed."""


class DeviceCrashed(DeviceError):
    """A kernel that failed so badly that this process can use the GPU no more."""


class DeviceUnreachable(DeviceError):
    """A device that does not answer, refuses, or went away and did not come back."""


class WrongDevice(DeviceError):
    """Another machine than the target, or one that lacks an instruction set of it."""


class DeviceFull(DeviceError):
    """No space on the device for what has to be copied there."""

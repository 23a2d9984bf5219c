"""How a program of a target runs on this machine."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tvmconv.errors import EnvironmentProblem, ProgramFailed
from tvmconv.target import Target

NATIVE: Final = "native"
EMULATED: Final = "emulated"


@dataclass(frozen=True)
class Runner:
    """How programs of a target run here.

    Attributes:
        how: "native" or "emulated".
        command: what stands before the program; empty when it runs by itself.
        dynamic: whether programs may use the target's shared libraries; static ones always run.
        label: for people: "qemu-aarch64 7.2.22, cortex-a72".
    """

    how: str
    command: tuple[str, ...]
    dynamic: bool
    label: str

    def run(
        self, program: Path, *arguments: str, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in its own folder, whatever its exit status.

        Args:
            program: an executable of the target.
            arguments: of the program.
            timeout: seconds until it is ended; None for no limit.

        Raises:
            ProgramFailed: a signal ended it (SIGILL: an instruction that the CPU has not), or it
                took longer than allowed.
            EnvironmentProblem: it cannot be started.
        """
        command = [*self.command, str(program.resolve()), *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=program.resolve().parent,  # where QEMU would leave a core file
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(f"{program.name} did not end within {timeout} seconds") from error
        except OSError as error:
            raise EnvironmentProblem(f"cannot start {' '.join(command[:1])}: {error}") from error
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise ProgramFailed(": ".join([f"{program.name} ended with {name}", *said]))
        return done


def find_runner(target: Target, *, native: bool = False, cpu: str = "") -> Runner:
    """How programs of `target` run here: in its emulator, else natively where the machine fits.

    Args:
        target: whose programs.
        native: natively first; the emulator has the target's own CPU, and so proves more.
        cpu: another CPU for the emulator to be, such as one that lacks something.

    Raises:
        EnvironmentProblem: neither way; says why, and what to install.
    """
    reasons = []
    for is_native in (native, not native):
        found = _native(target) if is_native else _emulated(target, cpu)
        if isinstance(found, Runner):
            return found
        reasons.append(found)
    if target.system == "none":
        reasons = ["it is firmware, which needs a board"]
    raise EnvironmentProblem(f"{target.id} does not run here: {'; '.join(reasons)}")


def _native(target: Target) -> Runner | str:
    if target.runs_here:
        return Runner(NATIVE, (), True, "this machine")
    missing = target.missing_features
    same = target.is_this_machine
    return f"this CPU lacks {', '.join(missing)}" if same else "this is another machine"


def _emulated(target: Target, cpu: str) -> Runner | str:
    emulator = target.emulator
    if emulator is None:
        return "the target names no emulator"
    if target.system != "linux":
        return f"{emulator.program} runs Linux programs alone"
    # The static build of the emulator is one package, and says that of itself alone.
    for name in (emulator.program, f"{emulator.program}-static"):
        found = shutil.which(name)
        if found is not None:
            break
    else:
        return f"{emulator.program} is not installed (Debian: apt install qemu-user)"
    dynamic = bool(emulator.sysroot) and (Path(emulator.sysroot) / "lib").is_dir()
    chosen = cpu or emulator.cpu
    sysroot = ("-L", emulator.sysroot) if dynamic else ()
    label = f"{name} {_version(found)}, {chosen}"
    return Runner(EMULATED, (found, "-cpu", chosen, *sysroot), dynamic, label)


@functools.cache
def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = said.stdout.split()
    return words[words.index("version") + 1] if "version" in words else "of unknown version"

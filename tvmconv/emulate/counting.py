"""How many instructions a call executes: counted exactly, by a plugin of the emulator.

A program runs a kernel once, then three times; half of the difference is one call. What starting,
reading and packing take is the same both times.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tvmconv.compilers import run
from tvmconv.emulate.program import CALLS_DIR, Part, compile_program, program_compiler, table_source
from tvmconv.emulate.runner import EMULATED, Runner, find_runner
from tvmconv.errors import EnvironmentProblem, ProgramFailed
from tvmconv.runtime.objects import hide_symbols
from tvmconv.runtime.wrapper import wrapper_source
from tvmconv.toolchain import find_cc, runtime_objects

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

PLUGIN: Final = CALLS_DIR / "plugin.c"
REPEAT: Final = CALLS_DIR / "repeat.c"
TIMES: Final = (1, 3)
# Since QEMU 9 the interface is of another version; what the plugin uses of it has not changed.
NEW_API_SINCE, OLD_API, NEW_API = 9, 1, 2

Block = tuple[int, int]
"""Address and number of instructions."""


def build_plugin(folder: Path, runner: Runner) -> Path:
    """Compile the plugin for this machine's emulator.

    Raises:
        EnvironmentProblem: there is no emulator, or it is a static one, which takes no plugins.
        BuildFailed: the compiler refused.
    """
    if runner.how != EMULATED:
        raise EnvironmentProblem("only an emulator counts instructions; the program runs without")
    version = subprocess.run(
        [runner.command[0], "--version"], capture_output=True, text=True, check=False
    ).stdout
    major = re.search(r"version (\d+)", version)
    api = NEW_API if major and int(major[1]) >= NEW_API_SINCE else OLD_API
    out = folder / "plugin.so"
    run([*find_cc(), "-O2", "-shared", "-fPIC", f"-DPLUGIN_API={api}", str(PLUGIN), "-o", str(out)])
    told = subprocess.run(
        [runner.command[0], "-plugin", f"{out},out=/dev/null", "-h"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "plugin" not in told.stdout:
        raise EnvironmentProblem(
            f"{runner.command[0]} takes no plugins; Debian's qemu-user does, qemu-user-static not"
        )
    return out


def executed(command: Sequence[str], plugin: Path, arguments: Sequence[str]) -> Counter[Block]:
    """How often each block of a program ran.

    Args:
        command: the emulator with its own options.
        plugin: from ``build_plugin``.
        arguments: the program and its arguments.

    Raises:
        ProgramFailed: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-count-") as folder:
        out = Path(folder) / "blocks.txt"
        full = [*command, "-plugin", f"{plugin},out={out}", *arguments]
        done = subprocess.run(full, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode or not out.is_file():
            raise ProgramFailed(f"{arguments[0]}: {done.stderr.strip() or done.returncode}")
        found: Counter[Block] = Counter()
        for line in out.read_text().splitlines():
            address, length, runs = line.split()
            found[int(address, 16), int(length)] += int(runs)
        return found


def per_call(
    command: Sequence[str],
    plugin: Path,
    before: Sequence[str],
    after: Sequence[str] = (),
    times: tuple[int, int] = TIMES,
) -> float:
    """Instructions of one call of a program that takes how often to call as an argument.

    ``before`` are the program and the arguments before that number, ``after`` those behind it;
    ``times`` are the two numbers.
    """
    totals = [
        sum(length * runs for (_, length), runs in blocks.items())
        for calls in times
        for blocks in [executed(command, plugin, [*before, str(calls), *after])]
    ]
    return (totals[1] - totals[0]) / (times[1] - times[0])


def count_instructions(kernel: Kernel, plugin: Path) -> float:
    """Instructions of one call of a kernel, on its target's emulated CPU, with one thread.

    Raises:
        EnvironmentProblem: no compiler or emulator for the target.
        ProgramFailed: the kernel failed.
    """
    runner = find_runner(kernel.target)
    with tempfile.TemporaryDirectory(prefix="tvmconv-count-") as folder:
        program = build_repeat(kernel, Path(folder) / "repeat", static=not runner.dynamic)
        return per_call(runner.command, plugin, [str(program)])


def build_repeat(kernel: Kernel, out: Path, *, static: bool) -> Path:
    """A program that runs one kernel as often as its argument says."""
    compiler = program_compiler(kernel.target, static=static)
    spec = kernel.spec
    sizes = {
        "weight": prod(spec.weight_shape),
        **dict.fromkeys(("bias", "scale", "shift"), spec.oc),
        "x": prod(spec.x_shape),
        "residual": prod(spec.out_shape),
        "offset": prod(spec.offset_shape) if spec.op == "deform_conv" else 1,
        "mask": prod(spec.mask_shape) if spec.mask else 1,
    }
    table = table_source([Part.of(kernel)])
    numbers = ", ".join(f"{size}u" for size in sizes.values())
    table += "extern const uint64_t repeat_sizes[8];\n"
    table += f"const uint64_t repeat_sizes[8] = {{{numbers}}};\n"
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        (work / "kernel.o").write_bytes(hide_symbols(kernel.object_bytes))
        (work / "wrapper.c").write_text(wrapper_source([kernel.c_symbol]))
        (work / "table.c").write_text(table)
        own = [work / name for name in ("kernel.o", "wrapper.c", "table.c")]
        return compile_program([REPEAT, *own, *runtime_objects(compiler)], out, compiler)

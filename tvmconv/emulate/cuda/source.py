"""From the source of device code to C++ that the emulator's headers make sense of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.errors import DeviceFault, EmulationGap

from .ptx import translate_assembly

_DYNAMIC = re.compile(
    r"\bextern\s+__shared__\s+(?:(?:alignas|__align__)\s*\(\s*\d+\s*\)\s*)?"
    r"(?P<type>[\w:\s]*?\w)\s+(?P<name>\w+)\s*\[\s*\]\s*;"
)
_STATIC = re.compile(
    r"(?<!extern )__shared__\s+(?:(?:alignas|__align__)\s*\(\s*(?P<align>\d+)\s*\)\s*)?"
    r"(?P<type>[\w:<>,\s]*?\w)\s+(?P<name>\w+)\s*(?P<extents>(?:\[[^\]]*\]\s*)*);"
)
_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.S)
_BOUNDS = r"__launch_bounds__\(\s*(\d+)[^)]*\)\s*{}\s*\("
# What every GPU since sm_30 takes.
MAX_THREADS, MAX_GRID_YZ = 1024, 65535


def translate(code: DeviceCode, number: int) -> str:
    """C++ of a code's source, all of it in a namespace of that number.

    Raises:
        EmulationGap: something without a model, by its name.
    """
    text = _COMMENT.sub(_without_comment, code.source)
    text = _STATIC.sub(_array, _DYNAMIC.sub(_pointer, text))
    if "__shared__" in text:
        line = next(line for line in text.splitlines() if "__shared__" in line)
        raise EmulationGap(f"cannot read the declaration {line.strip()}")
    # What is declared extern "C" must differ between the sources of a program.
    names = sorted({launch.kernel for launch in code.launches})
    defines = [f"#define {name} emulated{number}_{name}" for name in names]
    undefines = [f"#undef {name}" for name in names]
    # A source may have an own max of halves, which must not hide that of others.
    start = f"namespace source{number} {{ using ::min; using ::max;"
    head = [start, *defines, f'#line 1 "source{number}.cu"']
    tail = ['#line 1 "program"', *undefines, "}", ""]
    return "\n".join([*head, translate_assembly(text), *tail])


def kernel_table(codes: Sequence[DeviceCode]) -> tuple[str, dict[tuple[int, str], int]]:
    """C++ of the table of all kernels, and the place of each by code and name."""
    places: dict[tuple[int, str], int] = {}
    for number, code in enumerate(codes):
        for launch in code.launches:
            places.setdefault((number, launch.kernel), len(places))
    functions = [(name, f"source{number}::emulated{number}_{name}") for number, name in places]
    rows = [f'  {{"{name}", Call<&{f}>::invoke, Call<&{f}>::count}},' for name, f in functions]
    # An array needs an element; nobody counts this one.
    rows = rows or ["  {nullptr, nullptr, 0},"]
    count = f"const unsigned kernel_count = {len(places)};"
    lines = ["namespace emulated {", "const Kernel kernels[] = {", *rows, "};", count, "}", ""]
    return "\n".join(lines), places


def launch_fault(launch: Launch, source: str) -> DeviceFault | None:
    """Why no GPU starts this launch; None when there is no reason."""
    bound = re.search(_BOUNDS.format(re.escape(launch.kernel)), source)
    most = min(MAX_THREADS, int(bound[1])) if bound else MAX_THREADS
    if not 1 <= launch.threads <= most:
        text = f"{launch.kernel}: {launch.threads} threads a block, of at most {most}"
    elif min(launch.grid) < 1 or max(launch.grid[1:]) > MAX_GRID_YZ:
        text = f"{launch.kernel}: a grid of {launch.grid}, of at most {MAX_GRID_YZ} along y and z"
    else:
        return None
    return DeviceFault("launch", text)


def _array(match: re.Match[str]) -> str:
    kind = f"{match['type']}{''.join(match['extents'].split())}"
    name, align = match["name"], match["align"] or "1"
    return f'auto &{name} = emulated::shared<{kind}>("{name}", __LINE__, {align});'


def _pointer(match: re.Match[str]) -> str:
    kind, name = match["type"], match["name"]
    return f'{kind} *{name} = ({kind} *)emulated::dynamic_shared("{name}");'


def _without_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else "\n" * match[0].count("\n") or " "

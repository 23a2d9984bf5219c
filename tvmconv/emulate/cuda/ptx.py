"""Inline PTX of CUDA sources as C++: each instruction becomes a call of its model.

    asm volatile("cp.async.cg.shared.global [%0], [%1], %2;" :: "r"(to), "l"(from), "n"(16));

becomes ``emulated::ptx::cp_async(register0_, register1_, 16, 16)`` behind their declarations. What
is modelled stands in the table of tvmconv/emulate/cuda/instructions.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tvmconv.errors import EmulationGap

from .instructions import find_instruction

# Types of registers, by the letter that binds a C++ expression to one.
_BOUND: Final = {"r": "uint32_t", "l": "uint64_t", "h": "uint16_t", "f": "float", "d": "double"}
_DECLARED: Final = {"pred": "bool", "16": "uint16_t", "32": "uint32_t", "64": "uint64_t",
                    "f32": "float", "f64": "double"}  # fmt: skip
_SPECIAL: Final = {
    "%laneid": "(uint32_t)emulated::current->lane",
    "%warpid": "(uint32_t)emulated::current->warp",
    **{f"%tid.{a}": f"threadIdx.{a}" for a in "xyz"},
    **{f"%ntid.{a}": f"blockDim.{a}" for a in "xyz"},
    **{f"%ctaid.{a}": f"blockIdx.{a}" for a in "xyz"},
}
_STATEMENT = re.compile(r"\b(?:asm|__asm__)\b\s*(?:volatile|__volatile__)?\s*\(")
# A bracket of a scope, a label, or a statement, in which vectors have brackets too.
_TOKEN = re.compile(r"\s*([{}]|[\w$%]+\s*:(?!:)|[^;{}]*(?:\{[^}]*\}[^;{}]*)*;)")
_OPERAND = re.compile(r'\s*(?:\[\w+\]\s*)?"([=+&]*)(\w)"\s*\(')


@dataclass(frozen=True)
class Bound:
    """A C++ expression that is bound to a register: ``"=r"(value)``."""

    mode: str
    letter: str
    expression: str


def translate_assembly(source: str) -> str:
    """C++ text with every asm statement replaced; what follows stays in its line.

    Raises:
        EmulationGap: an instruction without a model, by its name.
    """
    parts, end = [], 0
    for count, match in enumerate(_STATEMENT.finditer(source)):
        if match.start() < end:
            continue
        close = closing(source, match.end() - 1)
        text = source[match.start() : close + 1]
        line = source.count("\n", 0, match.start()) + 1
        parts += [
            source[end : match.start()],
            _block(text[match.end() - match.start() : -1], line, count),
        ]
        # Inside of a macro a line must go on as it did.
        parts.append(("\\\n" if "\\\n" in text else "\n") * text.count("\n"))
        end = close + 1
    return "".join([*parts, source[end:]])


def closing(text: str, start: int) -> int:
    """Where the bracket at `start` is closed; strings are stepped over."""
    depth = 0
    for match in re.compile(r'"(?:\\.|[^"\\])*"|[()\[\]{}]').finditer(text, start):
        if match[0] in "([{":
            depth += 1
        elif match[0] in ")]}":
            depth -= 1
            if depth == 0:
                return match.start()
    raise EmulationGap(f"a bracket of the source is not closed: {text[start : start + 60]}")


def split_top(text: str, separator: str) -> list[str]:
    """Parts of `text` between separators that stand in no bracket or string."""
    parts, depth, last = [], 0, 0
    for match in re.compile(r'"(?:\\.|[^"\\])*"|[()\[\]{}]|' + re.escape(separator)).finditer(text):
        if match[0] in tuple("([{"):
            depth += 1
        elif match[0] in tuple(")]}"):
            depth -= 1
        elif match[0] == separator and depth == 0:
            parts.append(text[last : match.start()])
            last = match.end()
    return [*parts, text[last:]]


def _block(text: str, line: int, number: int) -> str:
    sections = [*split_top(text.replace("\\\n", " "), ":"), "", ""]
    strings = re.findall(r'"(?:\\.|[^"\\])*"', sections[0])
    ptx = "".join(ast.literal_eval(string) for string in strings)
    bound = [*_bound(sections[1]), *_bound(sections[2])]
    before, after = [], []
    for i, operand in enumerate(bound):
        if operand.letter == "n":
            continue
        kind = _BOUND[operand.letter]
        if "=" in operand.mode or "+" in operand.mode:
            start = f" = ({kind})bound{i}_" if "+" in operand.mode else " = 0"
            before.append(f"auto &bound{i}_ = ({operand.expression}); {kind} register{i}_{start};")
            after.append(f"bound{i}_ = (std::remove_reference_t<decltype(bound{i}_)>)register{i}_;")
        else:
            before.append(f"{kind} register{i}_ = ({kind})({operand.expression});")
    body = " ".join(_instructions(ptx, bound, line, number))
    return " ".join(["{", *before, "{", body, "}", *after, "}"])


def _bound(section: str) -> list[Bound]:
    found = []
    for part in split_top(section, ","):
        if not part.strip():
            continue
        match = _OPERAND.match(part)
        if match is None or match[2] not in (*_BOUND, "n"):
            raise EmulationGap(f"inline PTX: cannot read the operand {part.strip()}")
        expression = part[match.end() : closing(part, match.end() - 1)]
        found.append(Bound(match[1], match[2], expression))
    return found


def _instructions(ptx: str, bound: list[Bound], line: int, number: int) -> Iterator[str]:
    """C++ statements of a PTX text; labels get the asm statement's number."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", ptx, flags=re.S).replace("%%", "%")
    names: set[str] = set()
    at = 0
    while match := _TOKEN.match(text, at):
        at, token = match.end(), match[1].strip()
        if token in ("{", "}", ";"):
            yield token
        elif token.endswith(":"):
            yield f"{_label(token[:-1].strip(), number)}: ;"
        elif token.startswith(".reg"):
            yield _declaration(token, names)
        else:
            yield _instruction(token[:-1].strip(), bound, names, line, number)
    if text[at:].strip():
        raise EmulationGap(f"inline PTX: cannot read {text[at:].strip()}")


def _declaration(text: str, names: set[str]) -> str:
    match = re.fullmatch(r"\.reg\s+\.([a-z]*)(\d*)\s+([^;]+);", text)
    if match is None:
        raise EmulationGap(f"inline PTX: cannot read {text}")
    kind = _DECLARED.get(f"{match[1]}{match[2]}") or _DECLARED.get(match[2]) or _DECLARED[match[1]]
    made = [name.strip() for name in match[3].split(",")]
    names.update(made)
    return f"{kind} {', '.join(map(_name, made))};"


def _instruction(text: str, bound: list[Bound], names: set[str], line: int, number: int) -> str:
    match = re.fullmatch(r"(?:@(!?)([\w$%]+)\s+)?([a-z][\w.:]*)\s*(.*)", text, re.S)
    if match is None:
        raise EmulationGap(f"inline PTX: cannot read {text}")
    guard, opcode = match[2], match[3]
    if opcode in ("bra", "bra.uni"):
        statement = f"goto {_label(match[4].strip(), number)};"
    else:
        operands = [_operand(part.strip(), bound, names) for part in split_top(match[4], ",")]
        statement = find_instruction(opcode, [o for o in operands if o], line)
    if guard is None:
        return statement
    return f"if ({match[1]}{_operand(guard, bound, names)}) {{ {statement} }}"


def _operand(text: str, bound: list[Bound], names: set[str]) -> str:
    """C++ of an operand; several of them, in braces, are separated by commas."""
    if text.startswith("["):
        return _operand(text[1:-1].strip(), bound, names)
    if text.startswith("{"):
        return ", ".join(_operand(p.strip(), bound, names) for p in split_top(text[1:-1], ","))
    if len(parts := split_top(text, ",")) > 1:
        return ", ".join(_operand(part.strip(), bound, names) for part in parts)
    if (match := re.fullmatch(r"(.+?)\s*\+\s*(-?\w+)", text)) is not None:
        return f"({_operand(match[1], bound, names)} + {_operand(match[2], bound, names)})"
    if (match := re.fullmatch(r"%(\d+)", text)) is not None:
        operand = bound[int(match[1])]
        return f"({operand.expression})" if operand.letter == "n" else f"register{match[1]}_"
    if text in names:
        return _name(text)
    if text in _SPECIAL:
        return _SPECIAL[text]
    if (match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text)) is not None:
        return f"emulated::float_of(0x{match[1]}u)"
    if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)[uU]?", text):
        return text
    if text in ("", "_"):
        return ""
    if text.startswith("!"):
        return f"!{_operand(text[1:].strip(), bound, names)}"
    raise EmulationGap(f"inline PTX: cannot read the operand {text}")


def _name(register: str) -> str:
    return "own_" + re.sub(r"\W", "_", register)


def _label(name: str, number: int) -> str:
    return f"l{number}_" + re.sub(r"\W", "_", name)

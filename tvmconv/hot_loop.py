"""Find the loop of a kernel that does its work, in the assembly that LLVM printed."""

import re
from collections import Counter
from dataclasses import dataclass

# Apple's labels have no dot. Ltmp labels only tell debuggers where instructions lie.
_LABEL = re.compile(r"^(\.?L(?!tmp)[A-Za-z]*\d\w*):")
# x86: jne .L; ARM: b.ne .L, bne .L, cbnz x8, .L, tbnz w8, #0, .L; RISC-V: bnez a0, .L
_JUMP = re.compile(r"^\s+(?:j[a-z]+|b(?:\.?[a-z]+)?|[ct]bn?z)\s+(?:[^,]+,\s*)*(\.?L\w+)")
_FUNCTION = re.compile(r"^(?!L[A-Za-z]*\d)([A-Za-z_][\w$]*):")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(?:\s|$)")
_ARITHMETIC = re.compile(
    r"^v?(?:fn?m(?:add|sub)|(?:mul|add)[ps]s)"  # x86, and ARM's and RISC-V's scalar fmadd
    r"|^f(?:ml[as]|mul|add)"  # NEON, SVE; fmul.s of RISC-V
    r"|^v(?:fm[as]|ml[as]|mul|add)\.f32"  # NEON of 32-bit ARM
    r"|^vf(?:n?m(?:acc|add|sac|sub)|mul|add)\.v"  # RISC-V's V
)


_FUSED = re.compile(
    r"^\s+(?:vfn?m(?:add|sub)\d|fml[as]|vfm[as]|vml[as]|fn?m(?:add|sub)|vfn?m\w+\.v)"
)
# A vector register and the stack pointer in one instruction: x86, aarch64, 32-bit ARM.
_ON_STACK = re.compile(
    r"%[xyz]mm\d+.*\(%rsp|\(%rsp.*%[xyz]mm\d+"
    r"|\b(?:ldu?r|ldp|stu?r|stp)\b.*\b[qvzd]\d+.*\[sp"
    r"|\bv(?:ldr|str|ldm\w*|stm\w*|ld1|st1)\b.*\[sp|\bv(?:push|pop)\b"
    r"|\bv[ls]\dre?\w*\.v\b"  # RISC-V: whole registers, which nothing else moves
)
_SLOT = re.compile(r"^\s+(?:add|mov)\s+(\w+), sp\b")
# Whatever else gives a core register of 32-bit ARM a value.
_MOVED = re.compile(r"^\s+(?!v|st|cm|tst|b)[a-z]+\s+(r\d+|lr|ip),")
_THROUGH = re.compile(r"\bv(?:ld1|st1|ldm\w*|stm\w*|ldr|str)\S*\s.*\[(\w+)")
_LOAD = re.compile(r"^\s+(?:ldu?r|ldp|ld1\w*|vldr|vldmia|vld1\S*)\s.*\b[qvsdz]\d+")
_PAIR = re.compile(r"^\s+ldp\s+q\d+")
_RESULT = re.compile(r"^\s+(?:fml[as]|vfm[as]\S*|vml[as]\S*|fmadd\S*)(?:\.\d+[sd])?\s+([\w.]+)")


@dataclass(frozen=True)
class HotLoop:
    """The innermost loop with most multiply-adds, else most arithmetic; `text` is its assembly."""

    text: str
    instructions: int
    arithmetic: int
    names: tuple[tuple[str, int], ...]
    """The most frequent instructions and how often each occurs."""

    @property
    def lines(self) -> list[str]:
        """Its instructions, one each."""
        return [line for line in self.text.splitlines() if _INSTRUCTION.match(line)]

    @property
    def spills(self) -> tuple[str, ...]:
        """Instructions that move a vector register to or from the stack."""
        found, pointers = [], set[str]()
        for line in self.lines:
            # 32-bit ARM reaches its slots through a register: add r3, sp, #48; vld1.64 .., [r3]
            if slot := _SLOT.match(line):
                pointers.add(slot[1])
            elif moved := _MOVED.match(line):
                pointers.discard(moved[1])
            through = _THROUGH.search(line)
            if _ON_STACK.search(line) or (through and through[1] in pointers):
                found.append(line.strip())
        return tuple(found)

    @property
    def loads(self) -> int:
        """Vectors and elements that are loaded; a pair counts twice. ARM only."""
        return sum(bool(_LOAD.match(line)) + bool(_PAIR.match(line)) for line in self.lines)

    @property
    def chain(self) -> int:
        """Most multiply-adds upon one register, each waiting for the one before. ARM only."""
        results = Counter(found[1] for line in self.lines if (found := _RESULT.match(line)))
        return max(results.values(), default=0)

    @property
    def summary(self) -> str:
        """One line for people."""
        share = self.arithmetic / self.instructions if self.instructions else 0.0
        frequent = ", ".join(f"{count} {name}" for name, count in self.names)
        return f"{self.instructions} instructions, {share:.0%} of them arithmetic: {frequent}"


def find_hot_loop(assembly: str) -> HotLoop | None:
    """Return the hot loop of an assembly text, None when it has no loop with arithmetic."""
    lines = [line for line in _of_run(assembly) if _LABEL.match(line) or _code(line)]
    loops = _innermost(_loops(lines))
    counted = [(sum(map(_is_arithmetic, lines[a:b])), b - a, a, b) for a, b in loops]
    if not counted or max(counted)[0] == 0:
        return None
    # Sums of products run once per term, the transforms around them once per tile.
    summing = [loop for loop in counted if _is_sum(lines[loop[2] : loop[3]], loop[0])]
    arithmetic, _, start, end = max(summing or counted, key=lambda loop: (loop[0], -loop[1]))
    names = [found[1] for line in lines[start:end] if (found := _INSTRUCTION.match(line))]
    text = "\n".join(line.expandtabs(8).rstrip() for line in lines[start:end])
    return HotLoop(text, len(names), arithmetic, tuple(Counter(names).most_common(5)))


def _of_run(assembly: str) -> list[str]:
    """Its lines without the functions that pack weights, which run once."""
    kept, packs = [], False
    for line in assembly.splitlines():
        if function := _FUNCTION.match(line):
            packs = function[1].endswith(("_pack", "_pack_compute_"))
        if not packs:
            kept.append(line)
    return kept


def _code(line: str) -> bool:
    return bool(_INSTRUCTION.match(line))


def _is_arithmetic(line: str) -> bool:
    found = _INSTRUCTION.match(line)
    return bool(found and _ARITHMETIC.match(found[1]))


def _is_sum(lines: list[str], arithmetic: int) -> bool:
    """Whether a loop's arithmetic is multiply-adds, but for a tenth."""
    fused = sum(bool(_FUSED.match(line)) for line in lines)
    return fused > 0 and fused >= 0.9 * arithmetic


def _loops(lines: list[str]) -> list[tuple[int, int]]:
    """Every stretch from a label to a jump back to it, as half-open line ranges."""
    at: dict[str, int] = {}
    found = []
    for i, line in enumerate(lines):
        label, jump = _LABEL.match(line), _JUMP.match(line)
        if label:
            at[label[1]] = i
        elif jump and jump[1] in at:
            found.append((at[jump[1]], i + 1))
    return found


def _innermost(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The loops that hold no other loop."""
    return [
        (a, b) for a, b in loops if not any(a <= c and d <= b for c, d in loops if (c, d) != (a, b))
    ]

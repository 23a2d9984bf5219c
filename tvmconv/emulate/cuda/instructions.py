"""The PTX instructions that the emulator models, and how each is called.

Operands come as C++ expressions, those of a vector in one text. ``line`` stands for the line of the
source in messages about threads that wait for each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from tvmconv.errors import EmulationGap

Make = Callable[[re.Match[str], Sequence[str], int], str]

_TYPES: Final = {
    "b8": "uint8_t", "u8": "uint8_t", "s8": "int8_t", "b16": "uint16_t", "u16": "uint16_t",
    "s16": "int16_t", "b32": "uint32_t", "u32": "uint32_t", "s32": "int32_t", "f32": "float",
    "b64": "uint64_t", "u64": "uint64_t", "s64": "int64_t", "f64": "double", "pred": "bool",
}  # fmt: skip
_COMPARED: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
                    "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}  # fmt: skip
_APPROXIMATED: Final = {
    "ex2": "exp2f({})", "lg2": "log2f({})", "rcp": "1.0f / ({})", "rsqrt": "1.0f / sqrtf({})",
    "sqrt": "sqrtf({})", "tanh": "tanhf({})", "sin": "sinf({})", "cos": "cosf({})",
}  # fmt: skip
_ARITHMETIC: Final = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^",
                      "shl": "<<", "shr": ">>", "mul.lo": "*"}  # fmt: skip


def find_instruction(opcode: str, operands: Sequence[str], line: int) -> str:
    """The C++ statement of an instruction.

    Raises:
        EmulationGap: there is no model for it.
    """
    for pattern, make in _TABLE:
        match = pattern.fullmatch(opcode)
        if match is not None:
            return make(match, operands, line)
    raise EmulationGap("PTX instruction", opcode, "those of tvmconv/emulate/cuda/instructions.py")


def _ptx(name: str, *arguments: object) -> str:
    return f"emulated::ptx::{name}({', '.join(map(str, arguments))});"


def _copy(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    """cp.async [to], [from], bytes{, given}{, cache policy}."""
    to, source, size = operands[:3]
    # A cache policy has 64 bits and comes last; it changes no answer.
    rest = operands[3:-1] if match["policy"] else operands[3:]
    return _ptx("cp_async", to, source, size, rest[0] if rest else size)


def _compare(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    kind = _TYPES[match["type"]]
    to, left, right = operands
    return f"{to} = ({kind})({left}) {_COMPARED[match['how']]} ({kind})({right});"


def _select(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    to, yes, no, condition = operands
    return f"{to} = {condition} ? {yes} : {no};"


def _arithmetic(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    kind = _TYPES[match["type"]]
    to, left, right = operands
    return f"{to} = ({kind})({left}) {_ARITHMETIC[match['how']]} ({kind})({right});"


def _place(space: str, address: str) -> str:
    return f"emulated::at_shared({address})" if space == "shared" else f"(void *)({address})"


def _load(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    to, address = operands
    return _ptx(f"load<{_TYPES[match['type']]}>", _place(match["space"], address), to)


def _store(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    address, values = operands
    return _ptx(f"store<{_TYPES[match['type']]}>", _place(match["space"], address), values)


def _matrices(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    transposed = "true" if match["trans"] else "false"
    if match["move"] == "ld":
        return _ptx(f"ldmatrix<{transposed}>", line, operands[1], operands[0])
    return _ptx(f"stmatrix<{transposed}>", line, *operands)


def _multiply(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    return _ptx(f"mma_sync<emulated::ptx::{match['type'].upper()}, {match['k']}>", line, *operands)


def _warpgroup(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    """wgmma.mma_async of two descriptors. Its sums reach the variables when they are waited for."""
    sums, a, b, added, *signs = operands
    if [sign.strip() for sign in signs] != ["1", "1", "0", "0"]:
        raise EmulationGap("operands of wgmma", signs, "1, 1, 0, 0: nothing negated or transposed")
    kind, n = f"emulated::ptx::{match['type'].upper()}", match["n"]
    places = re.sub(r"\bregister(\d+)_", r"&bound\1_", sums)
    call = _ptx(f"wgmma<{kind}, {n}>", line, a, b, added, "places_", sums)
    return f"{{ float *const places_[] = {{{places}}}; {call} }}"


def _barrier(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    function = "arrive" if match["how"] == "arrive" else "barrier"
    return f"emulated::{function}({', '.join([*operands, '0'][:2])}, {line});"


def _arrive(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    """mbarrier.arrive{.expect_tx} _, [barrier]{, bytes}."""
    if len(operands) != (2 if match["bytes"] else 1):
        raise EmulationGap("state of mbarrier.arrive", operands[0], "_: waits name parities")
    return _ptx("mbarrier_arrive", *[*operands, "0"][:2])


def _nothing(match: re.Match[str], operands: Sequence[str], line: int) -> str:
    return ";"


def _rule(pattern: str, make: Make) -> tuple[re.Pattern[str], Make]:
    return re.compile(pattern), make


def _expression(text: str) -> Make:
    """An instruction that assigns `text`, in which {0} is the first source operand."""
    return lambda match, operands, line: f"{operands[0]} = {text.format(*operands[1:])};"


_SHARED: Final = r"shared(?:::cta)?"
_TYPE: Final = r"\.(?P<type>[a-z]+\d*)"
_TABLE: Final = (
    _rule(
        rf"cp\.async\.(?:ca|cg)\.{_SHARED}\.global(?P<policy>\.L2::cache_hint)?(?:\.L2::\d+B)?",
        _copy,
    ),
    _rule(
        r"cp\.async\.bulk\.shared::(?:cluster|cta)\.global\.mbarrier::complete_tx::bytes",
        lambda m, o, line: _ptx("cp_async_bulk", *o),
    ),
    _rule(rf"mbarrier\.init\.{_SHARED}\.b64", lambda m, o, line: _ptx("mbarrier_init", *o)),
    _rule(rf"mbarrier\.arrive(?P<bytes>\.expect_tx)?\.{_SHARED}\.b64", _arrive),
    _rule(
        rf"mbarrier\.(?:test|try)_wait\.parity\.{_SHARED}\.b64",
        lambda m, o, line: f"{o[0]} = {_ptx('mbarrier_wait', *o[1:], line)}",
    ),
    _rule(r"cp\.async\.commit_group", lambda m, o, line: _ptx("cp_async_commit_group")),
    _rule(r"cp\.async\.wait_group", lambda m, o, line: _ptx("cp_async_wait_group", *o)),
    _rule(r"cp\.async\.wait_all", lambda m, o, line: _ptx("cp_async_wait_all")),
    _rule(
        r"(?P<move>ld|st)matrix\.sync\.aligned\.m8n8\.x[124](?P<trans>\.trans)?"
        rf"(?:\.{_SHARED})?\.b16",
        _matrices,
    ),
    _rule(
        r"mma\.sync\.aligned\.m16n8k(?P<k>\d+)\.row\.col\.f32\.(?P<type>f16|bf16|tf32)\.(?P=type)\.f32",
        _multiply,
    ),
    _rule(
        r"wgmma\.mma_async\.sync\.aligned\.m64n(?P<n>\d+)k16\.f32\.(?P<type>f16|bf16)\.(?P=type)",
        _warpgroup,
    ),
    _rule(
        r"wgmma\.(?P<what>fence|commit_group)\.sync\.aligned",
        lambda m, o, line: _ptx(f"wgmma_{m['what']}", line),
    ),
    _rule(
        r"wgmma\.wait_group\.sync\.aligned",
        lambda m, o, line: _ptx("wgmma_wait_group", *o, line),
    ),
    _rule(r"(?:bar|barrier)(?:\.cta)?\.(?P<how>sync|arrive)(?:\.aligned)?", _barrier),
    _rule(r"bar\.warp\.sync", lambda m, o, line: f"emulated::warp_barrier({o[0]}, {line});"),
    _rule(
        rf"cvta\.to\.{_SHARED}\.u(?:32|64)",
        _expression("emulated::shared_address((void *)({0}))"),
    ),
    _rule(r"cvta\.to\.global\.u64", _expression("{0}")),
    _rule(r"cvt\.u32\.u64", _expression("(uint32_t)({0})")),
    _rule(r"cvt\.u64\.u32", _expression("(uint64_t)({0})")),
    _rule(r"cvt\.rna\.tf32\.f32", _expression("emulated::bits_of(emulated::tf32_rounded({0}))")),
    _rule(r"cvt\.rn\.f16x2\.f32", _expression("emulated::ptx::pair_of_half({0}, {1})")),
    _rule(r"cvt\.rn\.bf16x2\.f32", _expression("emulated::ptx::pair_of_bfloat16({0}, {1})")),
    _rule(r"cvt\.f32\.f16", _expression("emulated::float_of_half({0})")),
    _rule(r"cvt\.f32\.bf16", _expression("emulated::float_of_bfloat16({0})")),
    _rule(r"cvt\.rn\.f16\.f32", _expression("emulated::half_of_float({0})")),
    _rule(r"cvt\.rn\.bf16\.f32", _expression("emulated::bfloat16_of_float({0})")),
    _rule(rf"mov{_TYPE}", _expression("{0}")),
    _rule(r"fma\.rn(?:\.ftz)?\.f32", _expression("fmaf({0}, {1}, {2})")),
    _rule(rf"setp\.(?P<how>{'|'.join(_COMPARED)}){_TYPE}", _compare),
    _rule(rf"selp{_TYPE}", _select),
    _rule(rf"(?P<how>{'|'.join(map(re.escape, _ARITHMETIC))}){_TYPE}", _arithmetic),
    _rule(
        rf"(?P<how>{'|'.join(_APPROXIMATED)})\.approx(?:\.ftz)?\.f32",
        lambda m, o, line: f"{o[0]} = {_APPROXIMATED[m['how']].format(o[1])};",
    ),
    _rule(
        r"ld(?:\.volatile)?\.(?P<space>shared|global)(?:::cta)?(?:\.nc)?(?:\.L\w+(?:::\w+)*)*"
        rf"(?:\.v[24])?{_TYPE}",
        _load,
    ),
    _rule(
        r"st(?:\.volatile)?\.(?P<space>shared|global)(?:::cta)?(?:\.L\w+(?:::\w+)*)*"
        rf"(?:\.v[24])?{_TYPE}",
        _store,
    ),
    _rule(
        r"fence\.proxy\.async(?:\.shared::\w+)?",
        lambda m, o, line: "emulated::show_to_async();",
    ),
    _rule(r"prefetch\..*|fence\..*|membar\..*|griddepcontrol\..*|nanosleep\..*", _nothing),
)  # fmt: skip

"""TVM expressions as CUDA text, as far as activations need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

_OPERATORS = {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/",
    "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "==", "NE": "!=",
    "LShift": "<<",
}  # fmt: skip


def function_text(name: str, argument: tirx.Var, body: Any) -> str:
    """``__device__ inline float name(float argument)`` that returns ``body``."""
    lines: list[str] = []
    value = _print(body, lines)
    inner = "".join(f"    {line}\n" for line in lines)
    return (
        f"__device__ inline float {name}(float {argument.name}) {{\n{inner}    return {value};\n}}"
    )


def transform_text(name: str, count: int, forms: Callable[[Sequence[Any]], Sequence[Any]]) -> str:
    """``name(at, to)``: what ``forms`` makes of ``count`` expressions, as a function of arrays."""
    results = forms([tirx.Var(f"at[{i}]", "float32") for i in range(count)])
    lines = "".join(f"    to[{i}] = {_print(result, [])};\n" for i, result in enumerate(results))
    parameters = f"const float (&at)[{count}], float (&to)[{len(results)}]"
    return f"__device__ inline void {name}({parameters}) {{\n{lines}}}\n"


def _print(node: Any, lines: list[str]) -> str:
    """Text of an expression; values that are used several times become lines of their own."""
    kind = type(node).__name__
    if kind == "Let":
        lines.append(f"float {node.var.name} = {_print(node.value, lines)};")
        return _print(node.body, lines)
    if kind in _OPERATORS:
        return f"({_print(node.a, lines)} {_OPERATORS[kind]} {_print(node.b, lines)})"
    if kind == "Select":
        parts = (node.condition, node.true_value, node.false_value)
        test, yes, no = (_print(part, lines) for part in parts)
        return f"({test} ? {yes} : {no})"
    if kind == "Var":
        return str(node.name)
    if kind == "FloatImm":
        return f"{float(node.value):.9e}f"
    if kind == "IntImm":
        return str(int(node.value))
    if kind == "Cast":
        return f"({_C_TYPES[str(node.ty)]}){_print(node.value, lines)}"
    if kind == "Call":
        return _CALLS[node.op.name](*(_print(arg, lines) for arg in node.args))
    raise TypeError(f"no CUDA text for {kind}: {node}")


_C_TYPES = {"float32": "float", "int32": "int"}
_CALLS = {
    "tirx.floor": lambda v: f"floorf({v})",
    "tirx.reinterpret": lambda v: f"__int_as_float({v})",
}

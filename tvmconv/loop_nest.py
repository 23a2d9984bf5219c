"""A loop nest to be read: the loops with their extents, and which buffer each line fills from what.

    parallel i0 in 7
      xpad: 10 x 4 x 16 x 64
      for ax7 in 64, vector in 4
        xrow = x
      for ax15 in 64, unroll ax12 in 14, unroll ax13_0 in 2, vector ax13_1 in 16
        conv_local += v, packed

Of a GPU's, blocks and threads are loops too. Indices, masks and arithmetic are left out: the whole
script has them (``--show tir``). Lines that say the same as the one before, as unrolled code does,
are told once with their number.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import groupby

_KINDS = {"parallel": "parallel ", "unroll": "unroll ", "vectorized": "vector "}
_ALLOCATIONS = ("alloc_buffer", "alloc_local", "alloc_shared", "decl_buffer")
_ACCESSES = ("masked_load", "masked_store", "address_of")
_INDENT = "  "


def loop_nest(script: str) -> str:
    """The nest of the first function of a TVMScript text, one statement or perfect nest a line."""
    (function, *_) = (n for n in ast.walk(ast.parse(script)) if isinstance(n, ast.FunctionDef))
    return "\n".join(_lines(function.body, 0))


def _lines(body: Sequence[ast.stmt], depth: int) -> Iterator[str]:
    lines = (line for statement in body for line in _statement(statement, depth))
    for line, same in groupby(lines):
        times = len(list(same))
        yield f"{line}  ({times} times)" if times > 1 else line


def _statement(statement: ast.stmt, depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    if isinstance(statement, ast.For):
        loops, inner = _perfect(statement)
        yield indent + ", ".join(loops)
        yield from _lines(inner, depth + 1)
    elif isinstance(statement, ast.If):
        yield f"{indent}where {_short(ast.unparse(statement.test))}"
        yield from _lines(statement.body, depth + 1)
        if statement.orelse:
            yield f"{indent}else"
            yield from _lines(statement.orelse, depth + 1)
    elif isinstance(statement, ast.With):
        threads = [head for item in statement.items if (head := _thread(item.context_expr))]
        yield from (indent + head for head in threads)
        yield from _lines(statement.body, depth + bool(threads))
    else:
        yield from (indent + line for line in _simple(statement))


def _perfect(loop: ast.For) -> tuple[list[str], list[ast.stmt]]:
    """The heads of loops that hold nothing but the next one, and what the innermost holds."""
    heads = _heads(loop)
    while len(loop.body) == 1 and isinstance(loop.body[0], ast.For):
        loop = loop.body[0]
        heads += _heads(loop)
    return heads, loop.body


def _heads(loop: ast.For) -> list[str]:
    call = loop.iter
    assert isinstance(call, ast.Call)
    name = _name(call.func)
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
    extents = [_short(ast.unparse(extent)) for extent in call.args]
    if name not in ("grid", *_KINDS) and len(extents) > 1:
        extents = [" .. ".join(extents)]
    elif name == "thread_binding":
        (thread,) = (k.value for k in call.keywords if k.arg == "thread")
        return [f"{ast.literal_eval(thread)} in {extents[0]}"]
    kind = _KINDS.get(name, "for ")
    pairs = zip(targets, extents, strict=True)
    return [f"{kind}{ast.unparse(target)} in {extent}" for target, extent in pairs]


def _simple(statement: ast.stmt) -> Iterator[str]:
    """An allocation, a store, or a call with an effect; declarations of variables say nothing."""
    value = getattr(statement, "value", None)
    called = _name(value.func) if isinstance(value, ast.Call) else ""
    if isinstance(statement, ast.Assign):
        (target,) = statement.targets
        if head := _thread(statement.value):
            yield head
        elif called in _ALLOCATIONS and isinstance(value, ast.Call) and value.args:
            yield f"{ast.unparse(target)}: {_shape(value.args[0])}"
        elif isinstance(target, ast.Subscript):
            yield _store(ast.unparse(target.value), _reads(statement.value))
    elif called == "masked_store" and isinstance(value, ast.Call):
        yield _store(ast.unparse(value.args[0]), _reads(*value.args[1:]))
    elif isinstance(value, ast.Call) and not called.startswith(("func_attr", "attr")):
        yield " ".join((called, *dict.fromkeys(_reads(value))))


def _thread(node: ast.AST) -> str:
    """Blocks or threads along one axis; empty where there is one, or something else is said."""
    if not (isinstance(node, ast.Call) and _name(node.func) == "launch_thread"):
        return ""
    axis, extent = node.args
    return (
        "" if ast.unparse(extent) == "1" else f"{ast.literal_eval(axis)} in {ast.unparse(extent)}"
    )


def _store(target: str, reads: Sequence[str]) -> str:
    others = [name for name in dict.fromkeys(reads) if name != target]
    sign = "+=" if target in reads else "="
    return f"{target} {sign} {', '.join(others) or 'constant'}"


def _reads(*values: ast.AST) -> list[str]:
    """Buffers that expressions read, in order."""
    found = []
    for value in values:
        for node in ast.walk(value):
            if isinstance(node, ast.Subscript):
                found.append(ast.unparse(node.value))
            elif isinstance(node, ast.Call) and _name(node.func) in _ACCESSES:
                found += [arg.id for arg in node.args[:2] if isinstance(arg, ast.Name)][:1]
    return found


def _shape(node: ast.AST) -> str:
    extents = [ast.unparse(e) for e in node.elts] if isinstance(node, ast.Tuple) else ["?"]
    return " x ".join([e for e in extents if e != "1"] or ["1"])


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _short(text: str, length: int = 60) -> str:
    text = text.replace("T.", "")
    return text if len(text) <= length else text[: length - 3] + "..."

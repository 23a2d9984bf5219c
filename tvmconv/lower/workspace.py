"""How much workspace a lowered function takes, for those who have to provide it."""

from __future__ import annotations

from typing import Any, Final

import tvm_ffi
from tvm import tirx

# What a block takes beside its own bytes: up to 63 before its header of 64 (runtime/c/static.c).
_EXTRA_BYTES: Final = 127
# The third argument is the number of bytes.
_ALLOCATE: Final = "tirx.TVMBackendAllocWorkspace"
_FREE: Final = "tirx.TVMBackendFreeWorkspace"


def workspace_bytes(func: tirx.PrimFunc) -> int:
    """Most bytes that are taken at once by one thread, as static.c counts them.

    TVM takes a block where its buffer is declared, ``decl_buffer(data=Alloc(...))``, and frees
    blocks in the reverse order at the end of the scope, ``if Free(...) != 0: fail``. A loop that
    runs in parallel has one task there, which takes its blocks once.
    """
    live: list[int] = []
    most = 0

    def declared(node: tirx.DeclBuffer) -> None:
        nonlocal most
        if _name(node.data) == _ALLOCATE:
            live.append(int(node.data.args[2]) + _EXTRA_BYTES)
            most = max(most, sum(live))

    def tested(node: tirx.IfThenElse) -> None:
        if _name(getattr(node.condition, "a", None)) == _FREE:
            live.pop()

    tvm_ffi.structural_walk(
        func.body, [(tirx.DeclBuffer, declared), (tirx.IfThenElse, tested)], order="pre"
    )
    assert not live, "a block of workspace is never freed"
    return most


def _name(expr: Any) -> str:
    """Name of the operator that an expression calls, if it calls one."""
    return str(getattr(getattr(expr, "op", None), "name", ""))

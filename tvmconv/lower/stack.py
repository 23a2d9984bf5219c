"""Keep small buffers on the stack, where LLVM turns them into registers.

TVM takes workspace memory for every buffer above 1024 bytes, sixteen vectors of AVX-512. A register
tile of 28 accumulators then costs two calls of the runtime per tile, and lives in memory that LLVM
must prove unaliased before its sums stay in registers, which any prefetch or call undoes.
"""

from __future__ import annotations

from math import prod

import tvm_ffi
from tvm import tirx

STACK_LIMIT_BYTES = 8192
# TVM's own annotation for an allocation that is left to LLVM.
_ON_STACK = "disable_lower_builtin"


def keep_on_stack(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Mark every allocation of constant size up to STACK_LIMIT_BYTES."""

    def visit(node: tirx.AllocBuffer) -> tirx.AllocBuffer:
        shape = node.buffer.shape
        if not all(isinstance(extent, (int, tirx.IntImm)) for extent in shape):
            return node
        elems = prod(int(extent) for extent in shape)
        if 4 * elems > STACK_LIMIT_BYTES:
            return node
        return tirx.AllocBuffer(
            node.buffer, {**dict(node.annotations or {}), _ON_STACK: tirx.const(True, "bool")}
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, visit)))

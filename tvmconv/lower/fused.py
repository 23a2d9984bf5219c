"""Ask for fused multiply-adds by name, where LLVM does not make them of products and sums.

LLVM 22 takes it that a NEON multiply-add of 32-bit ARM is no faster than its two halves, so it
leaves ``vmul`` and ``vadd``: twice the arithmetic, and a register per product. Cores with VFPv4
(Cortex-A7 and all later ones) have ``vfma``.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx


def fuse_products(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Every ``a * b + c`` of float32 as one operation."""

    def visit(node: tirx.Add) -> Any:
        product, rest = (node.a, node.b) if isinstance(node.a, tirx.Mul) else (node.b, node.a)
        if not isinstance(product, tirx.Mul) or not str(node.ty).startswith("float32"):
            return node
        return tirx.call_llvm_pure_intrin(str(node.ty), "llvm.fma", product.a, product.b, rest)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.Add, visit)))

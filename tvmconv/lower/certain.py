"""Drop tests that the bounds of a loop already answer.

TVM guards a stage whose region starts at a minimum, as of squares of pixels whose last is cut
short: it cannot tell that ``min(16 * s, 48) + i`` stays below 49 where i runs to
``max(16 * s, 48) - min(16 * s, 48)``. To LLVM a guard around what fills local memory means that its
old values may be wanted, so all of them stay alive through every loop around: 28 vectors of half
the sums of Strassen's products, by which the accumulators of those products were spilled (1x1 384
to 1536 channels at 14x14 took 6.8 ms by a config that takes 1.7 without the guard).
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import sym, tirx

from tvmconv.lower.masked import COMPARISONS, conjuncts, least_margin, loop_bounds, margin_of

Expr = Any


def without_certain_tests(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function without tests that hold in every trip of a loop of varying extent."""
    bounds = loop_bounds(func.body)

    def shorten(loop: tirx.For) -> tirx.For:
        if isinstance(loop.extent, tirx.IntImm):
            return loop

        def drop(node: tirx.IfThenElse) -> tirx.Stmt:
            tests = conjuncts(node.condition)
            left = [test for test in tests if not _is_certain(test, loop, bounds)]
            if len(left) == len(tests) or node.else_case is not None:
                return node
            if not left:
                return node.then_case
            return tirx.IfThenElse(tirx.all(*left), node.then_case, None)

        body = tvm_ffi.structural_map(loop.body, (tirx.IfThenElse, drop))
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, shorten)))


def _is_certain(test: Expr, loop: tirx.For, bounds: sym.Analyzer) -> bool:
    """Whether a comparison holds in the trip of the loop where it is closest to failing."""
    least = least_margin(margin_of(test), loop) if isinstance(test, COMPARISONS) else None
    if least is None:
        return False
    return bool(bounds.const_int_bound(bounds.simplify(least)).min_value >= 0)

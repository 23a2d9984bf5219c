"""Tiles that meet the borders of x are taken apart from those that do not.

Where rows are read in place (guarded.py), only some tiles have taps in the padding. Loops over
tiles say how they are parted: PEELED writes the first and the last apart, INSIDE every tile's code
several times, under tests of where the tile lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

from tvmconv.lower.masked import conjuncts, is_choice, least_margin, margin_of, replace, slope

# A loop over lanes, see guarded.py.
GUARDED = "tvmconv.guarded"
# A loop whose first and last iteration are taken out, since only they meet the borders.
PEELED = "tvmconv.peeled"
# A loop over tiles whose body is written several times: without tests for tiles that lie inside x,
# and with tests as masks for the others. A test that stays a branch costs one per multiply-add
# where it is not taken out of all loops: a layer of dilated taps took six times as long.
INSIDE = "tvmconv.inside"
# On the loop over lanes where all tests are to be masks.
ALL_MASKS = "tvmconv.all_masks"
Expr = Any


def part_borders(body: tirx.Stmt) -> tirx.Stmt:
    """Rewrite every annotated loop."""
    for rewrite in (_peel, _versions):
        body = tvm_ffi.structural_map(body, (tirx.For, rewrite))
    return body


def _peel(loop: tirx.For) -> tirx.Stmt:
    """First iteration, the others, last iteration; as it is when it is not annotated."""
    if PEELED not in loop.annotations:
        return loop
    count = int(loop.extent)
    first, last = (
        replace(loop.body, loop.loop_var, tirx.const(i, "int32")) for i in (0, count - 1)
    )
    middle = tirx.For(loop.loop_var, 1, count - 2, loop.kind, loop.body)
    return tirx.SeqStmt([first, middle, last])


def _versions(loop: tirx.For) -> tirx.Stmt:
    """The loop with its body's versions under tests; as it is when it is not annotated."""
    if INSIDE not in loop.annotations:
        return loop
    inner, tests = _tests_of(loop.body)
    lanes = [node.loop_var for node in inner if GUARDED in node.annotations]
    fixed = [t for t in tests if all(slope(margin_of(t), lane) == 0 for lane in lanes)]
    body = _rewritten(loop.body, [], masks=True)
    if len(fixed) < len(tests):
        # Only lanes differ: rows lie in x.
        body = _if_all(fixed, inner, _rewritten(loop.body, fixed, masks=True), body)
    body = _if_all(tests, inner, _rewritten(loop.body, tests, masks=False), body)
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)


def _tests_of(body: tirx.Stmt) -> tuple[list[tirx.For], list[Expr]]:
    """Loops of a body from the innermost on, and the tests on what is read in lanes."""
    loops: list[tirx.For] = []
    tests: list[Expr] = []

    def note_loop(node: tirx.For) -> tirx.For:
        loops.append(node)
        return node

    def note_tests(node: ir.Call) -> ir.Call:
        if is_choice(node):
            tests.extend(conjuncts(node.args[0]))
        return node

    tvm_ffi.structural_map(body, (tirx.For, note_loop))
    for node in loops:
        if GUARDED in node.annotations:
            tvm_ffi.structural_map(node.body, (ir.Call, note_tests))
    return loops, tests


def _rewritten(body: tirx.Stmt, hold: Sequence[Expr], masks: bool) -> tirx.Stmt:
    """A version of a body in which some tests hold; whether the others become masks."""

    def choice(call: ir.Call) -> Expr:
        if not is_choice(call):
            return call
        test, load, other = call.args
        left = [t for t in conjuncts(test) if not any(t.same_as(h) for h in hold)]
        return tirx.if_then_else(tirx.all(*left), load, other) if left else load

    def loop(node: tirx.For) -> tirx.For:
        if GUARDED not in node.annotations:
            return node
        inside = tvm_ffi.structural_map(node.body, (ir.Call, choice))
        marks = {**node.annotations, ALL_MASKS: True} if masks else node.annotations
        return tirx.For(node.loop_var, node.min, node.extent, node.kind, inside, None, marks)

    return tvm_ffi.structural_map(body, (tirx.For, loop))


def _if_all(
    tests: Sequence[Expr], loops: Sequence[tirx.For], body: tirx.Stmt, other: tirx.Stmt
) -> tirx.Stmt:
    """One body where tests hold in all iterations of loops, else the other."""
    always = [_for_all(test, loops) for test in tests]
    known = [test for test in always if test is not None]
    if len(known) < len(tests):
        return other
    return tirx.IfThenElse(tirx.all(*known), body, other) if known else body


def _for_all(test: Expr, loops: Sequence[tirx.For]) -> Expr | None:
    """Whether a test holds in all iterations of loops; None where it is not linear in one."""
    margin = margin_of(test)
    # From the innermost loop on, since a loop's range may depend on those around it.
    for loop in loops:
        margin = least_margin(margin, loop)
        if margin is None:
            return None
    return sym.Analyzer().simplify(margin) >= 0

"""Start sums from -0.0, to which the first product may be added without an addition.

``fma(a, b, -0.0)`` is ``a * b`` whatever a and b are, and LLVM makes a product of it; with +0.0 it
may not, for the sign of a product that is -0.0. Where the first term of a sum is a straight line,
the register of each sum is so not set to zero first: of 1000 instructions of a depthwise channel
at 14x14, 56. A sum of nothing but -0.0 keeps its sign.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

Expr = Any


def start_sums(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Zeros that are stored where products are added become -0.0."""
    summed: list[tirx.Buffer] = []

    def collect(store: tirx.BufferStore) -> tirx.BufferStore:
        if isinstance(store.value, tirx.Add) and not _is_in(store.buffer, summed):
            sides = (store.value.a, store.value.b)
            loads = [side for side in sides if isinstance(side, ir.TensorLoad)]
            if any(load.source.same_as(store.buffer) for load in loads):
                summed.append(store.buffer)
        return store

    def start(store: tirx.BufferStore) -> tirx.BufferStore:
        if not is_zero(store.value) or not _is_in(store.buffer, summed):
            return store
        zero = tirx.const(-0.0, "float32")
        vector = isinstance(store.value, tirx.Broadcast)
        value = tirx.Broadcast(zero, store.value.lanes) if vector else zero
        return tirx.BufferStore(store.buffer, value, store.indices)

    tvm_ffi.structural_map(func.body, (tirx.BufferStore, collect))
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.BufferStore, start)))


def _is_in(buffer: tirx.Buffer, buffers: list[tirx.Buffer]) -> bool:
    return any(buffer.same_as(one) for one in buffers)


def is_zero(value: Expr) -> bool:
    """Whether a value is a zero, or a vector of zeros."""
    if isinstance(value, tirx.Broadcast):
        value = value.value
    return isinstance(value, tirx.FloatImm) and float(value) == 0.0

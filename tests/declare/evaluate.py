"""Run a declaration as it stands: TE through plain ``tvm.compile``, without any schedule."""

from itertools import product
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from tvmconv.declare import Declaration
from tvmconv.declare.declaration import Placement
from tvmconv.operands import Operands

Array = NDArray[Any]


def evaluate(declaration: Declaration, given: dict[str, Array]) -> Array:
    """The flat result buffer; what no placement writes stays NaN."""
    library = tvm.compile(declaration.prim_func(), target="llvm")
    inputs = [
        tvm.runtime.tensor(np.ascontiguousarray(given[name].reshape(-1)))
        for name in declaration.inputs
    ]
    shapes = [tuple(int(e) for e in tensor.shape) for tensor, _ in declaration.outputs]
    dtype = str(declaration.outputs[0][0].dtype)
    blocked = [tvm.runtime.tensor(np.full(shape, np.nan, dtype)) for shape in shapes]
    library(*inputs, *blocked)
    result = np.full(declaration.placements[0].elems, np.nan, dtype)
    for values, placement in zip(blocked, declaration.placements, strict=True):
        place(values.numpy(), placement, result)
    return result


def place(blocked: Array, placement: Placement, result: Array) -> None:
    """Write each blocked element where its placement says, and none twice."""
    for index in product(*map(range, blocked.shape)):
        if all(placement.guards(*index)):
            at = placement.offset(*index)
            assert 0 <= at < placement.elems
            assert np.isnan(result[at]), f"{placement.stage}{index} lands on a written element"
            result[at] = blocked[index]


def tensors(operands: Operands, packed: Array) -> dict[str, Any]:
    """Arguments of ``run`` by name."""
    return {"x": operands.x, "packed": packed, **operands.keywords()}

"""One kernel called from several Python threads at once, each with its own answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.numeric.proving import level_of
from tvmconv import fills
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

CALLERS, CALLS = 4, 25
SPECS = {
    "dense": tc.conv2d((1, 16, 20, 20), 24, 3, padding=1, bias=True),
    "reflect": tc.conv2d((1, 8, 15, 15), 8, 3, padding=1, padding_mode="reflect"),
    "depthwise": tc.conv2d((1, 20, 20, 16), 16, 3, padding=1, groups=16, layout="NHWC"),
    "pointwise": tc.conv2d((1, 32, 14, 14), 24, 1),
    "transposed": tc.conv_transpose2d((1, 12, 9, 9), 10, 4, stride=2, padding=1),
    "deformable": tc.deform_conv2d((1, 8, 9, 9), 8, 3, padding=1, mask=True),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", SPECS)
def test_re_entrant(name: str, threads: int) -> None:
    spec = SPECS[name]
    kernel = tc.compile(spec, level_of(spec), threads=threads)
    cases = [_case(spec, seed) for seed in range(CALLERS)]
    weight = cases[0][0]
    layer = kernel.bind(weight["weight"], weight.get("bias"))
    alone = [layer(o["x"], **_extra(o)) for o, _ in cases]
    for y, (_, exact) in zip(alone, cases, strict=True):
        np.testing.assert_allclose(y, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    start = Barrier(CALLERS)

    def call(seed: int) -> int:
        operands, extra = cases[seed][0], _extra(cases[seed][0])
        start.wait()
        return sum(
            not np.array_equal(layer(operands["x"], **extra), alone[seed]) for _ in range(CALLS)
        )

    with ThreadPoolExecutor(CALLERS) as pool:
        assert sum(pool.map(call, range(CALLERS))) == 0


def _extra(operands: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in operands.items() if k in ("offset", "mask", "residual")}


def _case(spec: ConvSpec, seed: int) -> tuple[dict[str, Any], Any]:
    """The seed's x, offset and mask with the weights of seed 0, and the answer."""
    own, shared = fills.integers(spec, seed), fills.integers(spec, 0)
    operands = replace(own, weight=shared.weight, bias=shared.bias)
    expected = reference(spec, operands, "float32")
    return {"x": operands.x, "weight": operands.weight, **operands.keywords()}, expected

"""Specs read from torch modules compile to kernels that agree with the modules."""

from typing import Any

import numpy as np
import pytest
import torch

import tvmconv as tc
from tests.numeric.proving import level_of
from tvmconv.spec import ConvSpec

MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    **{
        f"conv{rank}d-{mode}": (
            getattr(torch.nn, f"Conv{rank}d")(
                4, 6, 3, stride=2, padding=1, groups=2, padding_mode=mode
            ),
            (2, 4, *(7, 6, 5)[:rank]),
        )
        for rank in (1, 2, 3)
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    **{
        f"conv_transpose{rank}d": (
            getattr(torch.nn, f"ConvTranspose{rank}d")(
                4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2
            ),
            (2, 4, *(4, 5, 3)[:rank]),
        )
        for rank in (1, 2, 3)
    },
    "same-even": (torch.nn.Conv2d(3, 5, (4, 2), padding="same", bias=False), (1, 3, 9, 8)),
    "same-reflect": (
        torch.nn.Conv1d(3, 5, 4, padding="same", dilation=2, padding_mode="reflect"),
        (1, 3, 12),
    ),
    "depthwise": (torch.nn.Conv2d(8, 16, 3, padding=1, groups=8), (1, 8, 6, 6)),
}


# One module per operator is enough for the second layout.
CASES = [
    *((name, "NCHW") for name in MODULES),
    *((name, "NHWC") for name in ("conv2d-zeros", "depthwise", "conv_transpose2d")),
]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_module(name: str, layout: str) -> None:
    module, shape = MODULES[name]
    spec = ConvSpec.from_torch(module, shape, layout=layout)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float32))
    with torch.no_grad():
        for parameter in module.parameters():
            values = rng.integers(-3, 4, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(values))
        expected = module(x)
    kernel = tc.compile(spec, level_of(spec))
    weights = [p.detach() for p in module.parameters()]
    got = kernel(x.movedim(1, -1) if layout == "NHWC" else x, *weights)
    assert isinstance(got, torch.Tensor)
    assert torch.equal(got.movedim(-1, 1) if layout == "NHWC" else got, expected)

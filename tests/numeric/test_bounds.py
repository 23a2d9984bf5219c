"""No kernel reads or writes outside of its tensors; see guarded.py."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tvmconv as tc
from tests.numeric.test_few_outputs import SPECS as FEW_OUTPUTS
from tests.numeric.test_guarded_rows import PIXELS
from tests.numeric.test_guarded_rows import SPECS as ROWS
from tvmconv.spec import ConvSpec

ROOT = Path(__file__).parent.parent.parent


def both(shape: tuple[int, ...], *arguments: int, **options: Any) -> list[ConvSpec]:
    """A 2-D spec in both layouts."""
    n, c, h, w = shape
    return [
        tc.conv2d((n, c, h, w), *arguments, **options),
        tc.conv2d((n, h, w, c), *arguments, layout="NHWC", **options),
    ]


BATCHES: dict[str, list[ConvSpec]] = {
    "dense": [
        *both((1, 3, 9, 11), 37, 3, padding=1, bias=True),
        *both((2, 37, 7, 5), 3, 3, residual=True),
        *both((1, 17, 13, 13), 33, 5, stride=2, padding=2),
        *both((1, 5, 9, 9), 7, 3, dilation=2, padding=2, scale_shift=True, residual=True),
    ],
    "grouped": [
        *both((1, 37, 9, 11), 37, 3, padding=1, groups=37, residual=True),
        *both((1, 19, 11, 9), 19, 3, stride=2, groups=19),
        *both((1, 8, 7, 7), 24, 3, padding=1, groups=8),
        *both((1, 12, 9, 9), 20, 3, padding=1, groups=4, residual=True),
    ],
    "pointwise": [
        *both((1, 37, 7, 7), 19, 1, residual=True),
        *both((1, 3, 9, 5), 37, 1, stride=2),
        *both((3, 21, 1, 1), 10, 1),
        *both((1, 12, 5, 5), 9, 1, groups=3),
    ],
    "padding_modes": [
        spec
        for mode in ("constant", "reflect", "replicate", "circular")
        for spec in both(
            (1, 5, 7, 9), 11, 3, padding=2, padding_mode=mode, pad_value=2.0 * (mode == "constant")
        )
    ],
    "transposed": [
        tc.conv_transpose2d((1, 5, 6, 7), 37, 4, stride=2, padding=1, residual=True),
        tc.conv_transpose2d(
            (1, 6, 7, 5), 3, 3, stride=2, output_padding=1, layout="NHWC", residual=True
        ),
        tc.conv_transpose1d((2, 7, 9), 5, 5, stride=3, dilation=2, padding=3),
        tc.conv_transpose3d((1, 6, 3, 4, 5), 4, 3, stride=2, groups=2),
    ],
    "deformable": [
        tc.deform_conv2d((1, 5, 7, 9), 11, 3, padding=1, mask=True, residual=True),
        tc.deform_conv2d(
            (1, 5, 6, 6), 4, 3, groups=2, offset_groups=3, layout="NHWC", residual=True
        ),
    ],
    "rank_1_and_3": [
        tc.conv1d((1, 5, 31), 19, 5, padding="causal", dilation=2),
        tc.conv1d((2, 31, 3), 9, 3, layout="NHWC"),
        tc.conv3d((1, 3, 5, 6, 7), 13, 3, padding=1),
        tc.conv3d((1, 5, 4, 7, 3), 3, 3, padding=1, groups=3, layout="NHWC"),
    ],
    "gradients": [
        both((2, 6, 9, 7), 10, 3, padding=1, stride=2)[0].grad_weight(),
        both((2, 6, 9, 7), 10, 3, padding=1, groups=2)[1].grad_weight(),
        both((2, 6, 9, 7), 10, 3, padding=1, stride=2)[1].grad_input(),
    ],
}


FORCED: dict[str, list[str]] = {
    algorithm: [
        f"{algorithm}:{spec}"
        for spec in (
            *both((1, 3, 17, 19), 20, 5, padding=2, residual=True),
            *both((2, 6, 13, 14), 12, 4, stride=2, groups=6, bias=True),
            *both((1, 16, 9, 9), 19, 3, padding=2, dilation=2),
            tc.conv1d((2, 5, 40), 7, 9, padding=4, padding_mode="reflect"),
            tc.conv3d((1, 3, 4, 7, 8), 5, (2, 3, 3), groups=1, padding=1),
        )
    ]
    for algorithm in ("im2col", "fft")
}
# Rows long enough for whole vectors and their masks.
FORCED |= {
    algorithm: [
        f"{algorithm}:{spec}"
        for spec in (
            tc.conv2d((1, 64, 56, 56), 64, 3, padding=1),
            tc.conv2d((1, 33, 40, 58), 16, 3, padding=1, bias=True),
            *both((1, 24, 21, 35), 16, 3, padding=2, dilation=2),
            *both((2, 19, 17, 19), 20, 5, padding=2, residual=True),
            tc.conv_transpose2d((1, 12, 9, 33), 10, 4, stride=2, padding=1, residual=True),
            tc.conv1d((2, 24, 100), 17, 3, padding="causal", dilation=4),
            tc.conv3d((1, 9, 4, 7, 20), 5, (2, 3, 3), padding=1),
        )
        if not (spec.op == "conv_transpose" and algorithm == "x86.direct")
    ]
    for algorithm in ("x86.direct", "winograd")
}
IN_PLACE = {
    "masked rows": ("x86.columns", ROWS),
    "masked pixels": ("x86.depthwise", PIXELS),
    "few outputs": ("x86.columns", FEW_OUTPUTS),
}
FORCED |= {
    name: [f"{algorithm}:{spec}" for spec in specs.values() if not spec.activation]
    for name, (algorithm, specs) in IN_PLACE.items()
}
TEXTS = {name: [str(spec) for spec in specs] for name, specs in BATCHES.items()} | FORCED


@pytest.mark.parametrize("batch", TEXTS)
def test_guard_pages(batch: str) -> None:
    command = [sys.executable, "-m", "tests.numeric.guarded", *TEXTS[batch]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    assert done.stdout.endswith("all within their tensors\n")

"""Two specs per template: one that people run, one that is awkward (rank, odd sizes, layout)."""

import tvmconv as tc
from tvmconv.spec import ConvSpec

LEVELS = ("x86_64_v2", "x86_64_v3", "x86_64_v4")

CASES: dict[str, tuple[ConvSpec, ConvSpec]] = {
    "x86.direct": (
        tc.conv2d((1, 64, 56, 56), 64, 3, padding=1, bias=True, activation="relu"),
        tc.conv3d((2, 5, 6, 9, 7), 11, (3, 1, 2), stride=(1, 2, 1), padding=1, layout="NDHWC"),
    ),
    "x86.pointwise": (
        tc.conv2d((1, 28, 28, 128), 512, 1, bias=True, residual=True, layout="NHWC"),
        tc.conv1d((3, 37, 19), 5, 1, stride=2, scale_shift=True),
    ),
    "x86.columns": (
        tc.conv2d((1, 3, 224, 224), 16, 3, stride=2, padding=1, bias=True, activation="hardswish"),
        tc.conv_transpose1d((2, 4, 21), 3, 4, stride=3, padding=1),
    ),
    "x86.depthwise": (
        tc.conv2d((1, 112, 112, 32), 32, 3, padding=1, groups=32, bias=True, layout="NHWC"),
        tc.conv2d((2, 5, 9, 11), 15, (3, 2), stride=2, padding=1, padding_mode="reflect", groups=5),
    ),
    "x86.grouped": (
        tc.conv2d((1, 56, 56, 128), 128, 3, padding=1, groups=32, bias=True, layout="NHWC"),
        tc.conv3d((1, 6, 4, 5, 6), 8, 2, dilation=2, padding=1, groups=2, flip=True),
    ),
    "x86.im2col": (
        tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3, bias=True, activation="relu"),
        tc.conv3d((2, 5, 6, 7, 4), 10, (2, 1, 3), dilation=2, padding=2, groups=2, layout="NDHWC"),
    ),
    "x86.fft": (
        tc.conv2d((1, 56, 56, 64), 64, 9, padding=4, bias=True, activation="relu", layout="NHWC"),
        tc.conv2d((2, 6, 13, 17), 12, (5, 4), stride=2, padding=2, groups=6, residual=True),
    ),
    "x86.winograd": (
        tc.conv2d((1, 56, 56, 64), 64, 3, padding=1, bias=True, activation="relu", layout="NHWC"),
        tc.conv_transpose2d((2, 6, 9, 11), 10, (4, 3), stride=(2, 1), groups=2, residual=True),
    ),
    "x86.strassen": (
        tc.conv2d((1, 14, 14, 256), 1024, 1, bias=True, activation="relu", layout="NHWC"),
        tc.conv3d((2, 33, 5, 8, 9), 48, (3, 1, 2), stride=(2, 1, 2), padding=1, residual=True),
    ),
    "x86.transposed": (
        tc.conv_transpose2d((1, 16, 16, 64), 32, 4, stride=2, padding=1, layout="NHWC"),
        tc.conv_transpose2d(
            (1, 3, 5, 6), 7, (2, 3), stride=(3, 1), dilation=2, output_padding=(2, 0)
        ),
    ),
    "x86.deformable": (
        tc.deform_conv2d((1, 28, 28, 64), 64, 3, padding=1, mask=True, layout="NHWC"),
        tc.deform_conv2d((1, 6, 7, 8), 4, 3, padding=2, dilation=2, groups=2, offset_groups=3),
    ),
    "x86.general": (
        tc.conv2d((1, 32, 28, 28), 32, 3, padding=1, bias=True, activation="relu"),
        tc.conv3d((2, 5, 5, 6, 7), 3, 2, padding=1, padding_mode="circular"),
    ),
}

# The other families' templates take what x86's of the same names do.
_RISCV = ("direct", "depthwise", "general")
_CUDA = (
    "direct",
    "pointwise",
    "depthwise",
    "grouped",
    "transposed",
    "deformable",
    "winograd",
    "general",
)
_HALF = (
    tc.conv2d((1, 56, 56, 64), 64, 3, padding=1, bias=True, layout="NHWC", dtype="float16"),
    tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3, activation="relu", dtype="float16"),
)
_HALF_WINOGRAD = (
    _HALF[0],
    tc.conv_transpose2d((2, 32, 9, 11), 40, (4, 3), stride=(2, 1), groups=2, dtype="float16"),
)
_TENSOR_CORES = {
    "cuda.implicit_gemm": _HALF,
    "cuda.warpgroup_gemm": _HALF,
    "cuda.tensor_winograd": _HALF_WINOGRAD,
}
FAMILY_CASES: dict[str, dict[str, tuple[ConvSpec, ConvSpec]]] = {
    "x86": CASES,
    "arm": {
        template_id.replace("x86", "arm"): specs
        for template_id, specs in CASES.items()
        if template_id != "x86.strassen"
    },
    "riscv": {f"riscv.{name}": CASES[f"x86.{name}"] for name in _RISCV},
    "cuda": {f"cuda.{name}": CASES[f"x86.{name}"] for name in _CUDA} | _TENSOR_CORES,
}
FAMILY_TARGETS = {
    "x86": LEVELS,
    "arm": ("pi4", "armv7"),
    "riscv": ("riscv64", "riscv64_v"),
    "cuda": ("sm_80", "sm_90"),
}

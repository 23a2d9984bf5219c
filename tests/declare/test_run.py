"""Each declaration means what torch means, before any schedule touches it."""

from dataclasses import replace

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate, tensors
from tvmconv import fills
from tvmconv.declare import Declaration, Form, declare_deformable, declare_direct, declare_packing
from tvmconv.problem import canonical
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

# Tiles of 2x3 outputs in blocks of 2x6, and 4 lanes: nothing divides the sizes below.
CHANNELS = Form("oc", 4, 2, 3, 2, 6, "pixels")
COLUMNS = Form("ow", 3, 2, 4, 4, 8, "planes")
LANES = replace(CHANNELS, per_lane=True)


def staged(form: Form, stage: str) -> Form:
    return replace(form, stage=stage)


def unblocked(form: Form) -> Form:
    """Tiles of one output: nothing is read past the end, as reading in place demands."""
    return replace(form, tile_oh=1, tile_ow=1, block_oh=1, block_ow=1, stage="none")


CASES: dict[str, tuple[ConvSpec, Form]] = {
    "pixels": (tc.conv2d((2, 3, 5, 8), 6, 3, padding=1, bias=True, activation="relu"), CHANNELS),
    "pixels_last": (tc.conv2d((2, 5, 8, 3), 6, (2, 3), stride=2, layout="NHWC"), CHANNELS),
    "planes": (tc.conv2d((1, 3, 5, 8), 6, 3, padding=1), staged(CHANNELS, "planes")),
    "in_place": (tc.conv2d((1, 3, 5, 8), 6, 3), unblocked(CHANNELS)),
    "in_place_last": (tc.conv1d((1, 9, 3), 6, 3, layout="NWC"), unblocked(CHANNELS)),
    "guarded": (tc.conv1d((1, 8, 3), 6, 3, padding=1, layout="NWC"), staged(CHANNELS, "guarded")),
    "transposed_copy": (tc.conv2d((1, 3, 5, 8), 6, 3, padding=1), staged(CHANNELS, "transposed")),
    "columns": (tc.conv2d((2, 3, 6, 9), 4, 3, padding=1), COLUMNS),
    "columns_strided": (tc.conv2d((1, 3, 6, 19), 4, 3, stride=(1, 2), padding=1), COLUMNS),
    "columns_stride_3_dilated": (tc.conv1d((1, 2, 30), 3, 3, stride=3, dilation=2), COLUMNS),
    "columns_in_place": (tc.conv2d((1, 3, 5, 8), 6, 3), unblocked(COLUMNS)),
    "columns_transposed": (tc.conv_transpose2d((1, 3, 4, 5), 4, 3, stride=2), COLUMNS),
    "rank_3": (tc.conv3d((1, 2, 4, 5, 6), 5, 2, dilation=(1, 2, 1), padding=1), CHANNELS),
    "asymmetric": (tc.conv1d((1, 3, 12), 4, 3, dilation=2, padding="causal"), CHANNELS),
    "groups": (tc.conv2d((1, 6, 5, 6), 9, 2, groups=3, residual=True), CHANNELS),
    "flip": (tc.conv2d((1, 3, 5, 6), 4, (3, 2), flip=True), CHANNELS),
    "depthwise": (tc.conv2d((1, 7, 5, 6), 7, 3, padding=1, groups=7), LANES),
    "multiplier": (tc.conv2d((1, 5, 5, 6), 10, 2, groups=5, bias=True), LANES),
    "small_groups": (tc.conv2d((1, 6, 5, 6), 8, 3, padding=1, groups=2), LANES),
    "transposed": (tc.conv_transpose2d((2, 3, 4, 5), 6, 4, stride=2, padding=1), CHANNELS),
    "transposed_uneven": (
        tc.conv_transpose2d((1, 4, 5, 3), 4, 3, stride=2, output_padding=1, layout="NHWC"),
        CHANNELS,
    ),
    "transposed_gaps": (tc.conv_transpose1d((1, 3, 5), 4, 2, stride=3, output_padding=2), CHANNELS),
    "transposed_dilated": (tc.conv_transpose2d((1, 3, 4, 5), 4, 3, stride=2, dilation=3), CHANNELS),
    "transposed_groups": (tc.conv_transpose2d((1, 6, 4, 5), 4, 3, stride=2, groups=2), CHANNELS),
    "scale_shift": (
        tc.conv2d((1, 3, 4, 5), 6, 2, bias=True, scale_shift=True, residual=True), CHANNELS
    ),
    "gradient_of_weight": (tc.conv2d((2, 4, 5, 6), 6, 3, groups=2).grad_weight(), CHANNELS),
    "more_padding_than_kernel": (tc.conv1d((1, 2, 3), 4, 2, padding=4), CHANNELS),
    "kernel_larger_than_input": (tc.conv2d((1, 2, 2, 3), 4, 5, padding=2), CHANNELS),
}  # fmt: skip


def check(spec: ConvSpec, form: Form, run: Declaration) -> None:
    """Integers: the declared sum gives torch's own bits, each output written once."""
    operands = fills.integers(spec)
    packing = declare_packing(spec, canonical(spec), form)
    packed = evaluate(packing, {"weight": operands.weight, **operands.keywords()})
    y = evaluate(run, tensors(operands, packed)).reshape(spec.out_shape)
    assert np.array_equal(y, reference(spec, operands, "float32"))


@pytest.mark.parametrize("name", CASES)
def test_direct(name: str) -> None:
    spec, form = CASES[name]
    check(spec, form, declare_direct(spec, canonical(spec), form))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("form", [CHANNELS, COLUMNS], ids=["pixels", "planes"])
def test_padding_modes(mode: str, form: Form) -> None:
    value = 3.0 if mode == "constant" else 0.0
    spec = tc.conv2d(
        (1, 3, 4, 5), 4, 3, padding=((2, 1), (3, 0)), padding_mode=mode, pad_value=value
    )
    check(spec, form, declare_direct(spec, canonical(spec), form))


DEFORMABLE = {
    "first": tc.deform_conv2d((2, 4, 5, 6), 6, 3, padding=1),
    "last": tc.deform_conv2d((1, 5, 6, 4), 6, 3, padding=1, layout="NHWC"),
    "mask": tc.deform_conv2d((1, 4, 5, 6), 6, (3, 2), stride=2, mask=True),
    "offset_groups": tc.deform_conv2d((1, 4, 5, 6), 6, 2, padding=1, offset_groups=2, groups=2),
    "dilated": tc.deform_conv2d((1, 4, 6, 7), 5, 3, dilation=2, padding=2, mask=True),
}


@pytest.mark.parametrize("name", DEFORMABLE)
def test_deformable(name: str) -> None:
    spec, form = DEFORMABLE[name], staged(CHANNELS, "sample")
    check(spec, form, declare_deformable(spec, canonical(spec), form))


def test_arguments_come_in_the_order_of_the_c_functions() -> None:
    spec = tc.deform_conv2d(
        (1, 4, 5, 6), 6, 3, bias=True, scale_shift=True, residual=True, mask=True
    )
    problem, form = canonical(spec), staged(CHANNELS, "sample")
    run = declare_deformable(spec, problem, form)
    assert run.args == ("x", "packed", "residual", "offset", "mask", "y")
    pack = declare_packing(spec, problem, form)
    assert pack.args == ("weight", "bias", "scale", "shift", "packed")


@pytest.mark.parametrize("name", ["pixels", "columns", "depthwise", "transposed"])
def test_stages_have_the_names_that_schedules_rely_on(name: str) -> None:
    spec, form = CASES[name]
    declaration = declare_direct(spec, canonical(spec), form)
    script = declaration.prim_func().script()
    for stage in ("xpad", "conv", "out"):
        assert f'T.sblock("{stage}")' in script

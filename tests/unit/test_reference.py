"""The reference against torch itself, and against the rule written as loops."""

from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from torch.nn import functional as F

import tvmconv as tc
from tests.strategies import conv_specs
from tvmconv import fills
from tvmconv.operands import Operands
from tvmconv.reference import accumulate, from_canonical, reference, to_canonical
from tvmconv.spec import ConvSpec

Array = NDArray[Any]
CONV = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def double(array: Array | None) -> torch.Tensor:
    assert array is not None
    return torch.from_numpy(array).double()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_is_the_torch_module(rank: int, mode: str) -> None:
    module_type = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[rank - 1]
    module = module_type(4, 6, 3, stride=2, padding=2, groups=2, padding_mode=mode).double()  # type: ignore[arg-type]
    constructor = (tc.conv1d, tc.conv2d, tc.conv3d)[rank - 1]
    size = (7, 6, 5)[:rank]
    spec = constructor(
        (2, 4, *size), 6, 3, stride=2, padding=2, groups=2, bias=True, padding_mode=mode
    )
    operands = fills.normal(spec)
    with torch.no_grad():
        module.weight.copy_(double(operands.weight))
        assert module.bias is not None
        module.bias.copy_(double(operands.bias))
        expected = module(double(operands.x)).numpy()
    np.testing.assert_allclose(reference(spec, operands), expected, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_is_torchs(rank: int, groups: int) -> None:
    options: dict[str, Any] = {"stride": 3, "padding": 1, "output_padding": 2, "dilation": 2}
    options["groups"] = groups
    size = (5, 4, 3)[:rank]
    constructor = (tc.conv_transpose1d, tc.conv_transpose2d, tc.conv_transpose3d)[rank - 1]
    spec = constructor((2, 6, *size), 9, 3, **options)
    operands = fills.normal(spec)
    expected = CONV_TRANSPOSE[rank - 1](double(operands.x), double(operands.weight), **options)
    np.testing.assert_allclose(reference(spec, operands), expected.numpy(), atol=1e-12)


def test_asymmetric_transposed_padding_crops_each_side() -> None:
    spec = tc.conv_transpose2d((1, 2, 4, 5), 3, 3, stride=2, padding=((0, 2), (3, 1)))
    operands = fills.normal(spec)
    full = F.conv_transpose2d(double(operands.x), double(operands.weight), stride=2)
    expected = full[:, :, 0 : 9 - 2, 3 : 11 - 1].numpy()
    np.testing.assert_allclose(reference(spec, operands), expected, atol=1e-12)


def test_output_padding_beyond_the_padding_adds_rows_of_bias() -> None:
    spec = tc.conv_transpose1d((1, 1, 3), 1, 2, stride=3, output_padding=2, bias=True)
    operands = fills.integers(spec)
    expected = F.conv_transpose1d(
        double(operands.x), double(operands.weight), double(operands.bias), 3, output_padding=2
    )
    uneven = tc.conv_transpose1d(
        (1, 1, 3), 1, 2, stride=3, padding=((1, 0),), output_padding=2, bias=True
    )
    np.testing.assert_array_equal(reference(spec, operands), expected.numpy())
    np.testing.assert_array_equal(reference(uneven, operands), expected.numpy()[:, :, 1:])


def test_padding_may_cut_off_all_but_the_output_padding() -> None:
    spec = tc.conv_transpose1d((1, 1, 1), 1, 2, dilation=3, padding=((5, 0),), output_padding=2)
    assert spec.out_size == (1,)
    np.testing.assert_array_equal(reference(spec, fills.integers(spec)), np.zeros((1, 1, 1)))


@pytest.mark.parametrize("mode", ["zeros", "constant", "reflect", "replicate", "circular"])
def test_asymmetric_padding_is_index_arithmetic(mode: str) -> None:
    """Each padded position by its own rule, so that F.pad's order of sides is proven too."""
    begin, end, size = (2, 1), (3, 0), (4, 5)
    options: dict[str, Any] = {"padding_mode": mode}
    if mode == "constant":
        options["pad_value"] = -2.5
    spec = tc.conv2d((1, 1, *size), 1, 1, padding=((2, 3), (1, 0)), **options)
    operands = fills.integers(spec)
    weight = np.ones(spec.weight_shape, np.float32)
    expected = np.zeros(spec.out_shape)
    for oh in range(spec.out_size[0]):
        for ow in range(spec.out_size[1]):
            expected[0, 0, oh, ow] = _padded(operands.x[0, 0], oh - begin[0], ow - begin[1], mode)
    assert spec.out_size == (4 + 2 + end[0], 5 + 1 + end[1])
    np.testing.assert_array_equal(reference(spec, Operands(operands.x, weight)), expected)


def _padded(x: Array, row: int, col: int, mode: str) -> float:
    position = []
    for i, size in zip((row, col), x.shape, strict=True):
        if not 0 <= i < size and mode in ("zeros", "constant"):
            return 0.0 if mode == "zeros" else -2.5
        period = 2 * (size - 1)
        position.append(
            {
                "reflect": min(i % period, period - i % period),
                "replicate": min(max(i, 0), size - 1),
                "circular": i % size,
            }.get(mode, i)
        )
    return float(x[tuple(position)])


def test_flip_is_numpy_convolve() -> None:
    spec = tc.conv1d((1, 1, 9), 1, 4, padding="full", flip=True)
    operands = fills.integers(spec)
    expected = np.convolve(operands.x[0, 0], operands.weight[0, 0])
    np.testing.assert_array_equal(reference(spec, operands)[0, 0], expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_last_is_a_transposed_view(rank: int) -> None:
    constructor = (tc.conv1d, tc.conv2d, tc.conv3d)[rank - 1]
    size = (6, 5, 4)[:rank]
    first = constructor((2, 3, *size), 4, 3, padding=1, residual=True, bias=True)
    last = constructor((2, *size, 3), 4, 3, padding=1, residual=True, bias=True, layout="NHWC")
    operands = fills.normal(first)
    moved = Operands(
        np.moveaxis(operands.x, 1, -1),
        operands.weight,
        operands.bias,
        residual=np.moveaxis(operands.residual, 1, -1) if operands.residual is not None else None,
    )
    expected = np.moveaxis(reference(first, operands), 1, -1)
    np.testing.assert_array_equal(reference(last, moved), expected)


def test_epilogue_order() -> None:
    spec = tc.conv1d(
        (1, 1, 1), 1, 1, bias=True, scale_shift=True, residual=True, activation="relu6"
    )
    one = np.ones(1, np.float32)
    operands = Operands(
        np.full((1, 1, 1), 2, np.float32),
        np.full((1, 1, 1), 3, np.float32),
        bias=one,
        scale=-2 * one,
        shift=4 * one,
        residual=np.full((1, 1, 1), 15, np.float32),
    )
    assert reference(spec, operands).item() == (2 * 3 + 1) * -2 + 4 + 15


def test_layout_round_trip() -> None:
    array = np.arange(2 * 6 * 3 * 4).reshape(2, 6, 3, 4)
    for layout in ("NCHW", "NHWC", "CNHW"):
        moved = from_canonical(array, layout)
        np.testing.assert_array_equal(to_canonical(moved, layout, 2, 6, 1, (3, 4)), array)


def test_gradient_layout_splits_groups() -> None:
    """Memory [c][g][n] is a canonical [n, g * c] with the groups outermost."""
    array = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    canonical = to_canonical(array, "CGNW", 4, 6, 2, (5,))
    assert canonical[1, 1 * 3 + 2, 4] == array[2, 1, 1, 4]


DEFORMABLE = [
    tc.deform_conv2d((2, 4, 6, 5), 6, 3, padding=1, groups=2, offset_groups=2, mask=True),
    tc.deform_conv2d((1, 6, 5, 7), 4, (2, 3), stride=(2, 1), dilation=(1, 2), offset_groups=3),
    tc.deform_conv2d((1, 6, 5, 2), 3, 3, padding=((2, 1), (0, 3)), layout="NHWC"),
]


@pytest.mark.parametrize("spec", DEFORMABLE, ids=str)
def test_deformable_is_the_loop(spec: ConvSpec) -> None:
    operands = fills.normal(spec)
    np.testing.assert_allclose(
        reference(spec, operands), _deformable_loop(spec, operands), atol=1e-12
    )


def _deformable_loop(spec: ConvSpec, operands: Operands) -> Array:
    """torchvision's deform_conv2d, one scalar at a time."""
    assert operands.offset is not None
    n, (oh, ow), (kh, kw) = spec.n, spec.out_size, spec.kernel
    og, last = spec.offset_groups, spec.in_layout.endswith("C")
    mask = np.ones((n, 1)) if operands.mask is None else operands.mask
    x, offset = operands.x.astype(float), operands.offset.astype(float)
    if last:
        x, offset, mask = (np.moveaxis(a, -1, 1) for a in (x, offset, mask))
    y = np.zeros((n, spec.oc, oh, ow))
    icg, ocg = spec.ic // spec.groups, spec.oc // spec.groups
    for b, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(icg, kh, kw):
            channel = o // ocg * icg + c
            tap = channel // (spec.ic // og) * kh * kw + u * kw + v
            row = i * spec.stride[0] - spec.pads_begin[0] + u * spec.dilation[0]
            col = j * spec.stride[1] - spec.pads_begin[1] + v * spec.dilation[1]
            h, w = row + offset[b, 2 * tap, i, j], col + offset[b, 2 * tap + 1, i, j]
            sample = _bilinear(x[b, channel], h, w) * (mask[b, tap, i, j] if spec.mask else 1.0)
            y[b, o, i, j] += operands.weight[o, c, u, v] * sample
    return np.moveaxis(y, 1, -1) if last else y


def _bilinear(x: Array, h: float, w: float) -> float:
    if h <= -1 or h >= x.shape[0] or w <= -1 or w >= x.shape[1]:
        return 0.0
    top, left = floor(h), floor(w)
    total = 0.0
    for row, col in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < x.shape[0] and 0 <= col < x.shape[1]:
            total += (1 - abs(h - row)) * (1 - abs(w - col)) * x[row, col]
    return total


def test_deformable_border_weights() -> None:
    """Half a pixel outside counts half; one pixel outside counts nothing."""
    spec = tc.deform_conv2d((1, 1, 2, 2), 1, 1)
    x, weight = np.full((1, 1, 2, 2), 8, np.float32), np.ones((1, 1, 1, 1), np.float32)
    offset = np.zeros((1, 2, 2, 2), np.float32)
    offset[0, 0] = [[-0.5, -1.0], [0.5, 1.0]]
    y = reference(spec, Operands(x, weight, offset=offset))
    np.testing.assert_array_equal(y[0, 0], [[4, 0], [4, 0]])


def test_undeformed_is_the_convolution() -> None:
    options: dict[str, Any] = {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}
    spec = tc.deform_conv2d((2, 4, 7, 8), 6, 3, offset_groups=2, mask=True, **options)
    operands = fills.normal(spec)
    still = Operands(
        operands.x,
        operands.weight,
        offset=np.zeros(spec.offset_shape, np.float32),
        mask=np.ones(spec.mask_shape, np.float32),
    )
    expected = F.conv2d(double(operands.x), double(operands.weight), **options)
    np.testing.assert_allclose(reference(spec, still), expected.numpy(), atol=1e-12)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(conv_specs())
def test_shapes_agree_with_the_spec(spec: ConvSpec) -> None:
    operands = fills.integers(spec)
    assert reference(spec, operands).shape == spec.out_shape
    # Integers are exact in float32, whatever the spec: both precisions agree bit for bit.
    if (8 * spec.pad_value).is_integer():
        single = accumulate(spec, operands, "float32")
        np.testing.assert_array_equal(single, accumulate(spec, operands))

"""The FFT's declaration means what torch means, before any schedule touches it."""

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate, tensors
from tvmconv import fills
from tvmconv.declare.fft import declare_fft, declare_fft_packing
from tvmconv.declare.fft_form import FftForm, SpectralAxis, shared_zeros
from tvmconv.declare.roots import Ring
from tvmconv.problem import canonical
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

Radices = tuple[int, ...]
# Columns and rows; blocks of three tiles and four lanes divide nothing below.
CASES: dict[str, tuple[ConvSpec, Radices, Radices, dict[str, bool]]] = {
    "line": (tc.conv1d((2, 3, 15), 5, 4, padding=2, bias=True), (2, 2), (), {}),
    "one_tile": (tc.conv1d((1, 1, 9), 3, 5), (3, 2), (), {"fused": True}),
    "plane": (tc.conv2d((1, 3, 6, 7), 5, 3, padding=1), (4,), (2, 3), {"rows_in": True}),
    "last": (tc.conv2d((1, 6, 7, 3), 5, 3, layout="NHWC", activation="relu"), (3,), (4,), {}),
    "stored_rows": (tc.conv2d((1, 2, 6, 7), 5, 3), (4,), (4,), {"rows_out": True}),
    "rows_summed": (tc.conv2d((1, 3, 5, 9), 4, (3, 4), padding=1), (4,), (), {}),
    "strided": (tc.conv2d((1, 2, 9, 11), 3, 3, stride=(2, 3), padding=1), (3, 2), (8,), {}),
    "dilated": (tc.conv2d((1, 2, 9, 10), 3, (3, 2), dilation=(2, 3)), (4,), (8,), {}),
    "flip": (tc.conv2d((1, 2, 5, 6), 3, (2, 3), flip=True), (4,), (4,), {}),
    "groups": (tc.conv2d((1, 6, 5, 6), 9, 3, groups=3, residual=True), (4,), (4,), {}),
    "depthwise": (tc.conv2d((1, 5, 6, 6), 6, 3, padding=1, groups=6, layout="NHWC"),
                  (3,), (4,), {"per_lane": True}),
    "multiplier": (tc.conv2d((1, 3, 5, 6), 6, 3, groups=3), (4,), (4,),
                   {"per_lane": True, "fused": True}),
    "zeros_wrap": (tc.conv2d((2, 3, 6, 5), 5, 5, padding=2), (4,), (2, 4), {"rows_in": True}),
    "wide_zeros_wrap": (tc.conv1d((1, 2, 7), 3, 3, padding=((5, 4),)), (3, 2), (), {}),
    "strided_zeros_wrap": (tc.conv2d((1, 2, 7, 8), 3, 5, stride=2, padding=2, dilation=2),
                           (2, 3), (2, 6), {}),
    "depth": (tc.conv3d((1, 2, 3, 4, 5), 3, (2, 3, 2), padding=1), (3,), (4,), {}),
    "reflect": (tc.conv2d((1, 2, 4, 5), 3, 3, padding=2, padding_mode="reflect"), (3,), (4,), {}),
    "constant": (tc.conv1d((1, 2, 8), 3, 3, padding=2, padding_mode="constant", pad_value=2.0),
                 (4,), (), {}),
}  # fmt: skip


def form_of(spec: ConvSpec, w: Radices, h: Radices, flags: dict[str, bool]) -> FftForm:
    problem = canonical(spec)
    d, rows, columns = problem.axes
    return FftForm(
        d=SpectralAxis(d),
        h=SpectralAxis.of(problem, rows, Ring(h, real=False)),
        w=SpectralAxis.of(problem, columns, Ring(w, real=True)),
        block=3,
        tile_t=1,
        tile_b=1,
        lanes=4,
        fused=flags.get("fused", False),
        per_lane=flags.get("per_lane", False),
        rows_in=flags.get("rows_in", False),
        rows_out=flags.get("rows_out", False),
    )


@pytest.mark.parametrize("name", CASES)
def test_fft(name: str) -> None:
    spec, w, h, flags = CASES[name]
    problem, form, operands = canonical(spec), form_of(spec, w, h, flags), fills.normal(spec)
    packing = declare_fft_packing(spec, problem, form)
    packed = evaluate(packing, {"weight": operands.weight, **operands.keywords()})
    assert not np.isnan(packed).any()
    run = declare_fft(spec, problem, form)
    y = evaluate(run, tensors(operands, packed)).reshape(spec.out_shape)
    exact = reference(spec, operands)
    np.testing.assert_allclose(y, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_outputs_of_a_tile_do_not_wrap() -> None:
    spec = tc.conv1d((1, 1, 100), 1, 5, stride=3, dilation=2)
    axis = SpectralAxis(canonical(spec).axes[2], Ring((4, 4), real=True))
    assert axis.span == 9
    assert axis.outputs == (32 - 9) // 3 + 1
    last = (axis.outputs - 1) * 3 + axis.span
    assert last <= 32 < last + 3
    assert axis.tiles * axis.outputs >= axis.axis.out_extent


@pytest.mark.parametrize(
    ("padding", "mode", "zeros"),
    [(15, "zeros", 15), (((15, 9),), "zeros", 9), (40, "zeros", 30), (((0, 9),), "zeros", 0),
     (15, "reflect", 0), (15, "constant", 15)],
)  # fmt: skip
def test_zeros_at_both_ends_need_no_samples(
    padding: int | tuple[tuple[int, int]], mode: str, zeros: int
) -> None:
    spec = tc.conv1d((1, 1, 28), 1, 31, padding=padding, padding_mode=mode)
    problem = canonical(spec)
    assert shared_zeros(problem, problem.axes[2]) == zeros
    whole = SpectralAxis(problem.axes[2], Ring((8, 8), real=True), zeros).whole
    assert whole == spec.out_shape[2] + 30
    enough = SpectralAxis(problem.axes[2], Ring((whole - zeros,), real=False), zeros)
    less = SpectralAxis(problem.axes[2], Ring((whole - zeros - 1,), real=False), zeros)
    assert (enough.outputs, enough.tiles, enough.extent) == (spec.out_shape[2], 1, whole - zeros)
    assert less.outputs == whole - zeros - 31 < spec.out_shape[2]


def test_a_constant_that_is_not_zero_is_no_zero() -> None:
    spec = tc.conv1d((1, 1, 9), 1, 3, padding=1, padding_mode="constant", pad_value=2.0)
    problem = canonical(spec)
    assert shared_zeros(problem, problem.axes[2]) == 0


def test_stages_have_the_names_that_schedules_rely_on() -> None:
    spec, w, h, flags = CASES["plane"]
    run = declare_fft(spec, canonical(spec), form_of(spec, w, h, flags))
    script = run.prim_func().script()
    for stage in ("xline", "xrow", "row_0", "column_1", "conv", "product", "row_back_0", "out"):
        assert f'T.sblock("{stage}")' in script

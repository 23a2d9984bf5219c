"""The FFT's declaration means what torch means, before any schedule touches it."""

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate, tensors
from tvmconv import fills
from tvmconv.declare.fft import declare_fft, declare_fft_packing
from tvmconv.declare.fft_form import FftForm, SpectralAxis
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
    "depth": (tc.conv3d((1, 2, 3, 4, 5), 3, (2, 3, 2), padding=1), (3,), (4,), {}),
    "reflect": (tc.conv2d((1, 2, 4, 5), 3, 3, padding=2, padding_mode="reflect"), (3,), (4,), {}),
    "constant": (tc.conv1d((1, 2, 8), 3, 3, padding=2, padding_mode="constant", pad_value=2.0),
                 (4,), (), {}),
}  # fmt: skip


def form_of(spec: ConvSpec, w: Radices, h: Radices, flags: dict[str, bool]) -> FftForm:
    d, rows, columns = canonical(spec).axes
    return FftForm(
        d=SpectralAxis(d),
        h=SpectralAxis(rows, Ring(h, real=False)),
        w=SpectralAxis(columns, Ring(w, real=True)),
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


def test_stages_have_the_names_that_schedules_rely_on() -> None:
    spec, w, h, flags = CASES["plane"]
    run = declare_fft(spec, canonical(spec), form_of(spec, w, h, flags))
    script = run.prim_func().script()
    for stage in ("xline", "xrow", "row_0", "column_1", "conv", "product", "row_back_0", "out"):
        assert f'T.sblock("{stage}")' in script

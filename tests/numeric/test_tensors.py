"""Tensors as they come: any strides and alignment; what cannot be meant is a typed error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tvmconv as tc
from tvmconv import fills
from tvmconv.errors import ArgumentError, TvmconvError
from tvmconv.kernel import Kernel
from tvmconv.operands import Operands
from tvmconv.reference import reference

Array = NDArray[Any]
SPEC = tc.conv2d((2, 6, 9, 7), 5, 3, padding=1, bias=True, residual=True)


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    made: Kernel = tc.compile(SPEC, algorithm="direct")
    return made


@pytest.fixture(scope="module")
def operands() -> Operands:
    return fills.integers(SPEC)


@pytest.fixture(scope="module")
def expected(operands: Operands) -> Array:
    return reference(SPEC, operands, "float32")


def _offset_slice(a: Array) -> Array:
    """Starts 4 bytes into a larger array: aligned to a float and to nothing more."""
    room = np.full(a.size + 1, np.nan, np.float32)
    room[1:] = a.reshape(-1)
    return room[1:].reshape(a.shape)


def _misaligned(a: Array, by: int = 1) -> Array:
    room = np.zeros(a.nbytes + by, np.uint8)
    view = room[by:].view(np.float32) if by % 4 == 0 else np.ndarray(a.shape, a.dtype, room, by)
    view = view.reshape(a.shape)
    view[...] = a
    return view


def _padded_rows(a: Array) -> Array:
    room = np.full((*a.shape[:-1], a.shape[-1] + 3), np.nan, np.float32)
    room[..., :-3] = a
    return room[..., :-3]


def _every_second(a: Array) -> Array:
    room = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, np.float32)
    room[..., ::2] = a
    return room[..., ::2]


def _read_only(a: Array) -> Array:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


FORMS: dict[str, Callable[[Array], Array]] = {
    "offset_slice": _offset_slice,
    "misaligned_by_1": _misaligned,
    "misaligned_by_2": lambda a: _misaligned(a, 2),
    "misaligned_by_20": lambda a: _misaligned(a, 20),
    "padded_rows": _padded_rows,
    "every_second": _every_second,
    "negative_strides": lambda a: np.flip(np.flip(a).copy()),
    "transposed_view": lambda a: a.T.copy().T,
    "fortran_order": np.asfortranarray,
    "read_only": _read_only,
    "subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("form", FORMS)
def test_numpy_forms(form: str, kernel: Kernel, operands: Operands, expected: Array) -> None:
    change = FORMS[form]
    assert operands.bias is not None
    assert operands.residual is not None
    y = kernel(
        change(operands.x),
        change(operands.weight),
        change(operands.bias),
        residual=change(operands.residual),
    )
    np.testing.assert_array_equal(y, expected)


TORCH_FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda t: t,
    "requires_grad": lambda t: t.clone().requires_grad_(),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed_view": lambda t: t.mT.contiguous().mT,
    "offset_slice": lambda t: torch.cat([torch.zeros(1), t.reshape(-1)])[1:].reshape(t.shape),
    "narrowed": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
    "negative_view": lambda t: torch._neg_view(-t),
}


@pytest.mark.parametrize("form", TORCH_FORMS)
def test_torch_forms(form: str, kernel: Kernel, operands: Operands, expected: Array) -> None:
    change = TORCH_FORMS[form]
    x, weight = (change(torch.from_numpy(a)) for a in (operands.x, operands.weight))
    assert operands.bias is not None
    assert operands.residual is not None
    bias, residual = torch.from_numpy(operands.bias), change(torch.from_numpy(operands.residual))
    y = kernel(x, weight, bias, residual=residual)
    assert isinstance(y, torch.Tensor)
    assert y.dtype == torch.float32
    np.testing.assert_array_equal(y.numpy(), expected)


def test_expanded_tensor() -> None:
    """Stride 0: one value in many places."""
    spec = tc.conv2d((1, 3, 5, 5), 4, 3)
    kernel, weight = tc.compile(spec), fills.integers(spec).weight
    dense = np.full(spec.x_shape, 2, np.float32)
    y = kernel(dense, weight)
    np.testing.assert_array_equal(
        kernel(np.broadcast_to(dense[:, :, :1, :1], dense.shape), weight), y
    )
    expanded = torch.full((1, 1, 1, 1), 2.0).expand(spec.x_shape)
    assert torch.equal(kernel(expanded, torch.from_numpy(weight)), torch.from_numpy(y))


def test_torch_default_dtype_and_grad_mode_change_nothing(
    kernel: Kernel, operands: Operands, expected: Array
) -> None:
    tensors: dict[str, Any] = {n: torch.from_numpy(a) for n, a in operands.keywords().items()}
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            y = kernel(torch.from_numpy(operands.x), torch.from_numpy(operands.weight), **tensors)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(y.numpy(), expected)


def test_out_is_written(kernel: Kernel, operands: Operands, expected: Array) -> None:
    out = np.full(SPEC.out_shape, np.nan, np.float32)
    y = kernel(operands.x, operands.weight, **operands.keywords(), out=out)
    assert y is out
    np.testing.assert_array_equal(out, expected)


def test_results_are_new_each_time(kernel: Kernel, operands: Operands) -> None:
    layer = kernel.bind(operands.weight, operands.bias)
    first = layer(operands.x, residual=operands.residual)
    kept = first.copy()
    layer(np.zeros_like(operands.x), residual=operands.residual)
    np.testing.assert_array_equal(first, kept)


def test_inputs_are_not_written(kernel: Kernel, operands: Operands) -> None:
    before = {n: a.copy() for n, a in operands.keywords().items()}
    x, weight = operands.x.copy(), operands.weight.copy()
    kernel(operands.x, operands.weight, **operands.keywords())
    np.testing.assert_array_equal(operands.x, x)
    np.testing.assert_array_equal(operands.weight, weight)
    for name, array in operands.keywords().items():
        np.testing.assert_array_equal(array, before[name])


def test_nothing_outside_the_output_is_written(kernel: Kernel, operands: Operands) -> None:
    room = np.full(2 * 5 * 9 * 7 + 64, 77, np.float32)
    out = room[32:-32].reshape(SPEC.out_shape)
    kernel(operands.x, operands.weight, **operands.keywords(), out=out)
    assert (room[:32] == 77).all()
    assert (room[-32:] == 77).all()


BAD: dict[str, tuple[str, Callable[[Array], Any]]] = {
    "x_shape": ("x", lambda a: a[:, :5]),
    "x_rank": ("x", lambda a: a[0]),
    "x_float64": ("x", lambda a: a.astype(np.float64)),
    "x_integers": ("x", lambda a: a.astype(np.int32)),
    "x_big_endian": ("x", lambda a: a.astype(">f4")),
    "x_complex": ("x", lambda a: a.astype(np.complex64)),
    "x_list": ("x", lambda a: a.tolist()),
    "x_none": ("x", lambda a: None),
    "x_torch_double": ("x", lambda a: torch.from_numpy(a).double()),
    "x_torch_meta": ("x", lambda a: torch.empty(a.shape, device="meta")),
    "x_torch_sparse": ("x", lambda a: torch.from_numpy(a).to_sparse()),
    "weight_shape": ("weight", lambda a: a[:4]),
    "weight_float16": ("weight", lambda a: a.astype(np.float16)),
    "bias_missing": ("bias", lambda a: None),
    "bias_shape": ("bias", lambda a: a[:, None]),
    "residual_missing": ("residual", lambda a: None),
    "residual_shape": ("residual", lambda a: a[:1]),
    "scale_unwanted": ("scale", lambda a: np.ones(5, np.float32)),
    "mask_unwanted": ("mask", lambda a: np.ones(5, np.float32)),
    "out_shape": ("out", lambda a: np.zeros((2, 5, 9, 6), np.float32)),
    "out_strided": ("out", lambda a: np.zeros((2, 5, 9, 14), np.float32)[..., ::2]),
    "out_read_only": ("out", lambda a: _read_only(np.zeros((2, 5, 9, 7), np.float32))),
    "out_of_another_kind": ("out", lambda a: torch.zeros(2, 5, 9, 7)),
}


@pytest.mark.parametrize("case", BAD)
def test_typed_errors_name_the_argument(case: str, kernel: Kernel, operands: Operands) -> None:
    name, change = BAD[case]
    arguments: dict[str, Any] = {"x": operands.x, "weight": operands.weight, **operands.keywords()}
    arguments[name] = change(arguments.get(name, operands.x))
    with pytest.raises(ArgumentError) as caught:
        kernel(**arguments)
    assert caught.value.argument.split(".")[0] == name
    assert caught.value.allowed
    assert isinstance(caught.value, TvmconvError)


def test_packed_weights_of_another_kernel_are_refused(kernel: Kernel, operands: Operands) -> None:
    with pytest.raises(ArgumentError, match="packed"):
        kernel.run(operands.x, np.zeros(3, np.float32), residual=operands.residual)

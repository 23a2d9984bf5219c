"""Tensors from outside: used in place when dense, copied when not, refused when not meant."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.elements import SHORT_FLOATS, numpy_dtype
from tvmconv.errors import ArgumentError

Array = NDArray[Any]
SHAPE = (2, 3, 4)


def values() -> Array:
    return np.arange(24, dtype=np.float32).reshape(SHAPE)


def at_address(address: int, elems: int = 24) -> Array:
    """Read the floats that a kernel would see."""
    return np.array((ctypes.c_float * elems).from_address(address)).reshape(SHAPE)


def misaligned(by: int) -> Array:
    room = np.zeros(24 * 4 + by, np.uint8)
    view = np.ndarray(SHAPE, np.float32, room, by)
    view[...] = values()
    return view


IN_PLACE: dict[str, Callable[[], Array]] = {
    "dense": values,
    "read_only": lambda: np.frombuffer(values().tobytes(), np.float32).reshape(SHAPE),
    "slice_of_the_first_axis": lambda: np.concatenate([values(), values()])[2:],
    "four_bytes_into_a_line": lambda: misaligned(4),
}
COPIED: dict[str, Callable[[], Array]] = {
    "negative_strides": lambda: values()[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "fortran": lambda: np.asfortranarray(values()),
    "every_second": lambda: np.repeat(values(), 2, axis=2)[:, :, ::2],
    "misaligned_by_1": lambda: misaligned(1),
    "misaligned_by_2": lambda: misaligned(2),
}


@pytest.mark.parametrize("form", IN_PLACE)
def test_dense_arrays_are_used_in_place(form: str) -> None:
    array = IN_PLACE[form]()
    plain, address = tensors.dense("x", array, SHAPE)
    assert address == array.__array_interface__["data"][0]
    assert plain is array
    assert np.array_equal(at_address(address), array)


@pytest.mark.parametrize("form", COPIED)
def test_other_arrays_are_read_as_they_mean(form: str) -> None:
    array = COPIED[form]()
    plain, address = tensors.dense("x", array, SHAPE)
    assert plain.flags.c_contiguous
    assert address % 4 == 0
    assert np.array_equal(at_address(address), values())


def test_zero_strides_are_spread() -> None:
    row = np.arange(4, dtype=np.float32)
    spread = np.broadcast_to(row, SHAPE)
    plain, address = tensors.dense("x", spread, SHAPE)
    assert np.array_equal(at_address(address), spread)
    del plain
    tensor = torch.from_numpy(row).expand(SHAPE)
    copy, address = tensors.dense("x", tensor, SHAPE)
    assert np.array_equal(at_address(address), spread)
    del copy


def shifted() -> torch.Tensor:
    return torch.frombuffer(misaligned(4).base, dtype=torch.float32, offset=4).reshape(SHAPE)


TORCH: dict[str, Callable[[], torch.Tensor]] = {
    "dense": lambda: torch.from_numpy(values()),
    "channels_last": lambda: torch.from_numpy(values()).permute(0, 2, 1).contiguous().mT,
    "every_second": lambda: torch.from_numpy(np.repeat(values(), 2, axis=2))[:, :, ::2],
    "offset": shifted,
    "requires_grad": lambda: torch.from_numpy(values()).requires_grad_(),
    "negative_bit": lambda: torch._neg_view(torch.from_numpy(-values())),
    "inference": lambda: torch.inference_mode()(lambda: torch.from_numpy(values()).clone())(),
}


@pytest.mark.parametrize("form", TORCH)
def test_torch_tensors_are_read_as_they_mean(form: str) -> None:
    tensor = TORCH[form]()
    plain, address = tensors.dense("x", tensor, SHAPE)
    assert np.array_equal(at_address(address), values())
    if form in ("dense", "offset", "requires_grad"):
        assert address == tensor.data_ptr()
    del plain


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (lambda: [1.0, 2.0], "x: got 'list'; allowed: a numpy array or a torch tensor"),
    "none": (lambda: None, "x: got 'NoneType'; allowed: a numpy array or a torch tensor"),
    "float64": (lambda: values().astype(np.float64), "x.dtype: got 'float64'; allowed: float32"),
    "float16": (lambda: values().astype(np.float16), "x.dtype: got 'float16'; allowed: float32"),
    "int32": (lambda: values().astype(np.int32), "x.dtype: got 'int32'; allowed: float32"),
    "big_endian": (lambda: values().astype(">f4"), "x.dtype: got '>f4'; allowed: float32"),
    "shape": (lambda: values()[:1], "x.shape: got (1, 3, 4); allowed: (2, 3, 4)"),
    "rank": (lambda: values()[0], "x.shape: got (3, 4); allowed: (2, 3, 4)"),
    "torch_float64": (
        lambda: torch.zeros(SHAPE, dtype=torch.float64),
        "x.dtype: got 'torch.float64'; allowed: torch.float32",
    ),
    "torch_bfloat16": (
        lambda: torch.zeros(SHAPE, dtype=torch.bfloat16),
        "x.dtype: got 'torch.bfloat16'; allowed: torch.float32",
    ),
    "torch_shape": (
        lambda: torch.zeros(4, 3, 2),
        "x.shape: got (4, 3, 2); allowed: (2, 3, 4)",
    ),
    "torch_meta": (
        lambda: torch.zeros(SHAPE, device="meta"),
        "x.device: got 'meta'; allowed: cpu",
    ),
    "torch_sparse": (
        lambda: torch.zeros(SHAPE).to_sparse(),
        "x.layout: got 'torch.sparse_coo'; allowed: torch.strided",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused(case: str) -> None:
    make, message = WRONG[case]
    with pytest.raises(ArgumentError) as error:
        tensors.dense("x", make(), SHAPE)
    assert str(error.value) == message


def test_out_is_written_in_place() -> None:
    array, tensor = values(), torch.from_numpy(values())
    assert tensors.check_out(array, SHAPE, False)[1] == array.__array_interface__["data"][0]
    assert tensors.check_out(tensor, SHAPE, True)[1] == tensor.data_ptr()


WRONG_OUT: dict[str, tuple[Callable[[], Any], bool, str]] = {
    "other_kind": (values, True, "out: got 'ndarray'; allowed: a torch tensor, as x is"),
    "torch_for_numpy": (
        lambda: torch.zeros(SHAPE),
        False,
        "out: got 'Tensor'; allowed: a numpy array, as x is",
    ),
    "strided": (
        lambda: np.repeat(values(), 2, axis=2)[:, :, ::2],
        False,
        "out: got 'a strided tensor'; allowed: a dense one of shape (2, 3, 4)",
    ),
    "torch_strided": (
        lambda: torch.zeros(4, 3, 2).permute(2, 1, 0),
        True,
        "out: got 'a strided tensor'; allowed: a dense one of shape (2, 3, 4)",
    ),
    "read_only": (
        IN_PLACE["read_only"],
        False,
        "out: got 'a read-only array'; allowed: one that can be written",
    ),
    "shape": (lambda: values()[:1], False, "out.shape: got (1, 3, 4); allowed: (2, 3, 4)"),
}


@pytest.mark.parametrize("case", WRONG_OUT)
def test_out_that_cannot_be_written_is_refused(case: str) -> None:
    make, like_torch, message = WRONG_OUT[case]
    with pytest.raises(ArgumentError) as error:
        tensors.check_out(make(), SHAPE, like_torch)
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [SHAPE, (1,), (0, 3), (1000, 7)])
def test_new_arrays_start_at_a_cache_line(shape: tuple[int, ...]) -> None:
    array, address = tensors.empty_numpy(shape, int(np.prod(shape)))
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address % tensors.ALIGNMENT_BYTES == 0
    if array.size:
        assert address == array.__array_interface__["data"][0]


def test_new_torch_tensors_are_float32_whatever_the_default() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        tensor, address = tensors.empty_torch(SHAPE)
    finally:
        torch.set_default_dtype(before)
    assert tensor.dtype == torch.float32
    assert tensor.device.type == "cpu"
    assert address == tensor.data_ptr()


def test_is_torch_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tensors.is_torch(torch.zeros(1))
    assert not tensors.is_torch(np.zeros(1))
    monkeypatch.delitem(sys.modules, "torch")
    assert not tensors.is_torch(np.zeros(1))
    assert "torch" not in sys.modules


@pytest.mark.parametrize("name", SHORT_FLOATS)
def test_short_floats_are_taken_where_they_are_asked_for(name: str) -> None:
    dtype = numpy_dtype(name)
    short = np.ones(SHAPE, dtype)
    plain, at = tensors.dense("x", short, SHAPE, dtype)
    assert plain is short
    assert at == tensors.address(short)
    other = torch.ones(SHAPE, dtype=getattr(torch, name))
    plain, at = tensors.dense("x", other, SHAPE, dtype)
    assert at == other.data_ptr()
    for wrong in (short.astype(np.float32), other.float()):
        with pytest.raises(ArgumentError, match=r"x.dtype: got '(torch\.)?float32'; allowed: "):
            tensors.dense("x", wrong, SHAPE, dtype)
    room, start = tensors.empty_numpy((3,), 3, dtype)
    assert room.dtype == dtype
    assert start % tensors.ALIGNMENT_BYTES == 0

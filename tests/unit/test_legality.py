"""What is legal: whatever torch accepts and nothing that it rejects, tried on torch itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import tvmconv as tc

FORWARD = {1: (nn.Conv1d, tc.conv1d), 2: (nn.Conv2d, tc.conv2d), 3: (nn.Conv3d, tc.conv3d)}
TRANSPOSED = {
    1: (nn.ConvTranspose1d, tc.conv_transpose1d),
    2: (nn.ConvTranspose2d, tc.conv_transpose2d),
    3: (nn.ConvTranspose3d, tc.conv_transpose3d),
}


def is_accident(options: dict[str, Any], answer: Any) -> bool:
    """Whether torch accepts what tvmconv means to refuse (see the top of legality.py)."""

    def lowest(name: str, default: int) -> Any:
        value = options.get(name, default)
        return min(value) if isinstance(value, tuple) else value

    if not answer:
        return False
    negative = not isinstance(options["padding"], str) and lowest("padding", 0) < 0
    return negative or 0 in answer or lowest("dilation", 1) < 1


def torch_answer(module: Any, shape: tuple[int, ...], *args: Any, **options: Any) -> Any:
    """The shape that torch answers with, or None when it raises."""
    try:
        with torch.no_grad():
            return tuple(module(*args, **options)(torch.zeros(shape)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None


def our_answer(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The shape that the spec states, or None when it is refused."""
    try:
        return make(*args, **options).out_shape
    except tc.SpecError:
        return None


def per_axis(rank: int, low: int, high: int) -> st.SearchStrategy[Any]:
    one = st.integers(low, high)
    return st.one_of(one, st.tuples(*[one] * rank))


@st.composite
def problems(draw: st.DrawFn, transposed: bool) -> tuple[int, tuple[int, ...], int, dict[str, Any]]:
    """Rank, input shape, output channels and keywords, half of them illegal."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    shape = (
        draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)) + draw(st.sampled_from((0, 0, 0, 0, 1))),
        *(draw(st.integers(1, 6)) for _ in range(rank)),
    )
    options: dict[str, Any] = {
        "kernel_size": draw(per_axis(rank, 1, 4)),
        "stride": draw(per_axis(rank, 1, 3)),
        "dilation": draw(per_axis(rank, 1, 3)),
        "padding": draw(per_axis(rank, 0, 4)),
        "groups": groups,
    }
    if transposed:
        options["output_padding"] = draw(per_axis(rank, 0, 2))
    else:
        options["padding_mode"] = draw(
            st.sampled_from(("zeros", "reflect", "replicate", "circular"))
        )
        options["padding"] = draw(
            st.one_of(st.just(options["padding"]), st.sampled_from(("same", "valid")))
        )
    if draw(st.integers(0, 4)) == 0:
        wrong = draw(st.sampled_from(("kernel_size", "stride", "dilation", "padding", "groups")))
        bad: Any = st.sampled_from((0, -1, (1,) * (rank + 1), 1.5, "near"))
        options[wrong] = draw(bad)
    return rank, shape, groups * draw(st.integers(1, 2)), options


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems(transposed=False))
def test_forward_as_torch(problem: tuple[int, tuple[int, ...], int, dict[str, Any]]) -> None:
    rank, shape, oc, options = problem
    module, make = FORWARD[rank]
    theirs = torch_answer(module, shape, shape[1], oc, **options)
    if is_accident(options, theirs):
        theirs = None
    assert our_answer(make, shape, oc, **options) == theirs


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems(transposed=True))
@example((1, (1, 1, 3), 1, {"kernel_size": 1, "padding": 1, "groups": 1}))
def test_transposed_as_torch(problem: tuple[int, tuple[int, ...], int, dict[str, Any]]) -> None:
    rank, shape, oc, options = problem
    module, make = TRANSPOSED[rank]
    theirs = torch_answer(module, shape, shape[1], oc, **options)
    if is_accident(options, theirs):
        theirs = None
    assert our_answer(make, shape, oc, **options) == theirs


@pytest.mark.parametrize(
    ("mode", "most"), [("zeros", 50), ("reflect", 7), ("replicate", 50), ("circular", 8)]
)
def test_largest_padding(mode: str, most: int) -> None:
    for pad in (most, most + 1):
        options: dict[str, Any] = {"kernel_size": 3, "padding": pad, "padding_mode": mode}
        theirs = torch_answer(nn.Conv2d, (1, 2, 8, 8), 2, 3, **options)
        assert our_answer(tc.conv2d, (1, 2, 8, 8), 3, **options) == theirs
        assert (theirs is None) == (pad > most and mode in ("reflect", "circular"))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (0, 3, 2, 2)])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_empty_batch(shape: tuple[int, ...], mode: str) -> None:
    options: dict[str, Any] = {"kernel_size": 5, "padding": 1, "padding_mode": mode}
    theirs = torch_answer(nn.Conv2d, shape, 3, 4, **options)
    assert our_answer(tc.conv2d, shape, 4, **options) == theirs


def test_the_meant_differences() -> None:
    """Where torch accepts what makes no sense, see tvmconv/legality.py."""
    assert torch_answer(nn.Conv2d, (1, 0, 8, 8), 0, 4, 3) == (1, 0, 6, 6)
    assert our_answer(tc.conv2d, (1, 0, 8, 8), 4, 3) is None
    options: dict[str, Any] = {"kernel_size": 3, "output_padding": 7}
    assert torch_answer(nn.ConvTranspose2d, (0, 3, 3, 3), 3, 4, **options) == (0, 4, 12, 12)
    assert our_answer(tc.conv_transpose2d, (0, 3, 3, 3), 4, **options) is None
    options = {"kernel_size": 3, "padding": -1, "padding_mode": "reflect"}
    assert torch_answer(nn.Conv2d, (1, 2, 8, 8), 2, 4, **options) == (1, 4, 4, 4)
    assert our_answer(tc.conv2d, (1, 2, 8, 8), 4, **options) is None
    options = {"kernel_size": 1, "padding": 1, "stride": 2, "output_padding": 1}
    assert torch_answer(nn.ConvTranspose2d, (2, 2, 1, 1), 2, 2, **options) == (2, 2, 0, 0)
    assert torch_answer(nn.ConvTranspose2d, (1, 2, 1, 1), 2, 2, **options) is None
    assert our_answer(tc.conv_transpose2d, (2, 2, 1, 1), 2, **options) is None


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"padding": 3, "padding_mode": "reflect"}, "padding_mode"),
        ({"flip": True}, "flip"),
        ({"offset_groups": 3}, "offset_groups"),
        ({"padding": -1}, "padding"),
        ({"stride": 0}, "stride"),
        ({"dilation": 0}, "dilation"),
        ({"dilation": 9}, "kernel"),
        ({"groups": 3}, "ic"),
    ],
)
def test_deformable_refuses(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(tc.SpecError) as caught:
        tc.deform_conv2d((1, 4, 8, 8), 4, 3, **options)
    assert caught.value.argument == argument


def test_a_deformable_kernel_may_stand_out_by_less_than_a_stride() -> None:
    """torchvision computes (8 - 9) / 2 + 1 in C, which rounds toward zero."""
    assert tc.deform_conv2d((1, 4, 8, 8), 4, 9, stride=2).out_size == (1, 1)
    with pytest.raises(tc.SpecError):
        tc.deform_conv2d((1, 4, 8, 8), 4, 9)

"""The worked examples, and what holds for every convolution, on the slow twin.

Compiled kernels are compared with torch in tests/numeric; here the meaning of a spec itself is
held against the textbook: known answers, linearity, shifts, adjoints, the convolution theorem.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.slow_conv import Array, slow_conv
from tvmconv.spec import ConvSpec

SEEDS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "seed_vectors.json").read_text()
)
RAMP = [10.0 * np.outer(np.arange(1, 6), np.arange(1, 6))]
SOBEL_X = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
PREWITT = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]]
LINE, EDGE = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 0.0, -1.0]


def one(picture: Any, kernel: Any, **options: Any) -> Array:
    """Convolve one channel with one kernel; rank by the kernel."""
    x, weight = np.asarray(picture, float), np.asarray(kernel, float)
    make = (tc.conv1d, tc.conv2d, tc.conv3d)[weight.ndim - 1]
    spec = make((1, 1, *x.shape[-weight.ndim :]), 1, weight.shape, **options)
    return slow_conv(spec, x.reshape(spec.x_shape), weight.reshape(spec.weight_shape))[0, 0]


@pytest.mark.parametrize(
    ("key", "picture", "kernel", "options"),
    [
        ("1d_xcorr_valid", LINE, EDGE, {}),
        ("1d_conv_valid", LINE, EDGE, {"flip": True}),
        ("1d_conv_full", LINE, EDGE, {"flip": True, "padding": "full"}),
        ("1d_conv_same", LINE, EDGE, {"flip": True, "padding": "same"}),
        ("1d_xcorr_same", LINE, EDGE, {"padding": "same"}),
        ("1d7_xcorr", list(range(1, 8)), EDGE, {}),
        ("sobelx", RAMP, SOBEL_X, {}),
        ("sobelx_trueconv", RAMP, SOBEL_X, {"flip": True}),
        ("sobely", RAMP, np.transpose(SOBEL_X), {}),
        ("prewitt_h", RAMP, PREWITT, {}),
        ("torch3x3", np.arange(1, 10).reshape(3, 3), [[1, 0], [0, -1]], {}),
        ("torch3x3_trueconv", np.arange(1, 10).reshape(3, 3), [[1, 0], [0, -1]], {"flip": True}),
    ],
)
def test_worked_examples(key: str, picture: Any, kernel: Any, options: dict[str, Any]) -> None:
    assert one(picture, kernel, **options).tolist() == SEEDS[key]


SPECS = [
    "conv1d_n2c4s9_o6k3_g2_s2_p1.2_circular",
    "conv2d_n2c3s6x7_o4k3x2_s1x2_d2x1_p1x0",
    "conv2d_n1c4s6x6_o8k3x3_g4_p1_reflect_flip_nhwc",
    "conv3d_n1c2s3x4x5_o3k2x3x2_p1_replicate",
    "convt2d_n2c4s3x4_o6k3x2_g2_s2_d1x2_p1_a1",
]


def drawn(spec: ConvSpec, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=spec.x_shape), rng.normal(size=spec.weight_shape)


@pytest.mark.parametrize("text", SPECS)
def test_linear_in_both_operands(text: str) -> None:
    spec = ConvSpec.parse(text)
    (x, w), (x2, w2) = drawn(spec), drawn(spec, 1)
    np.testing.assert_allclose(
        slow_conv(spec, 2 * x - 3 * x2, w), 2 * slow_conv(spec, x, w) - 3 * slow_conv(spec, x2, w)
    )
    np.testing.assert_allclose(
        slow_conv(spec, x, 2 * w - 3 * w2), 2 * slow_conv(spec, x, w) - 3 * slow_conv(spec, x, w2)
    )


def test_translation_equivariance() -> None:
    spec = ConvSpec.parse("conv2d_n1c2s8x9_o3k3x3_p1_circular")
    x, w = drawn(spec)
    moved = slow_conv(spec, np.roll(x, (2, -3), (2, 3)), w)
    np.testing.assert_allclose(moved, np.roll(slow_conv(spec, x, w), (2, -3), (2, 3)))


def test_only_true_convolution_commutes() -> None:
    a, b = np.arange(1.0, 6.0), np.array([2.0, -1.0, 4.0])

    def full(x: Array, kernel: Array, flip: bool) -> list[float]:
        wide = one(np.pad(x, len(kernel) - 1), kernel, flip=flip)
        assert isinstance(wide, np.ndarray)
        return wide.tolist()  # type: ignore[no-any-return]

    assert full(a, b, True) == full(b, a, True) == np.convolve(a, b).tolist()
    assert full(a, b, False) != full(b, a, False)


def test_true_convolution_is_associative() -> None:
    x, a, b = np.arange(1.0, 12.0), np.array([1.0, 2.0, -1.0]), np.array([3.0, 0.0, 1.0])
    twice = one(one(x, a, flip=True), b, flip=True)
    np.testing.assert_array_equal(twice, one(x, np.convolve(a, b), flip=True))


def test_convolution_theorem() -> None:
    """A full true convolution is a product of Fourier transforms."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(6, 7)), rng.normal(size=(3, 4))
    size = (8, 10)
    product = np.fft.rfft2(x, size) * np.fft.rfft2(w, size)
    np.testing.assert_allclose(
        one(x, w, flip=True, padding="full"), np.fft.irfft2(product, size), atol=1e-12
    )


def test_limits_of_grouping() -> None:
    """One group is dense; as many as channels is one convolution per channel."""
    x, w = drawn(ConvSpec.parse("conv2d_n1c3s6x6_o3k3x3_g3"))
    apart = slow_conv(ConvSpec.parse("conv2d_n1c3s6x6_o3k3x3_g3"), x, w)
    for channel in range(3):
        np.testing.assert_allclose(apart[0, channel], one(x[0, channel], w[channel, 0]))
    dense = np.zeros((3, 3, 3, 3))
    dense[range(3), range(3)] = w[:, 0]
    together = slow_conv(ConvSpec.parse("conv2d_n1c3s6x6_o3k3x3"), x, dense)
    np.testing.assert_allclose(together, apart)


def test_pointwise_is_a_matrix_product() -> None:
    spec = ConvSpec.parse("conv2d_n2c5s3x4_o6k1x1_nhwc")
    x, w = drawn(spec)
    np.testing.assert_allclose(slow_conv(spec, x, w), x @ w[:, :, 0, 0].T)


@pytest.mark.parametrize("text", [SPECS[1], SPECS[4], "conv1d_n2c4s9_o6k3_g2_s2_p1.2_flip_nlc"])
def test_adjoint(text: str) -> None:
    """<conv x, y> = <x, convT y>."""
    spec = ConvSpec.parse(text)
    x, w = drawn(spec)
    y = np.random.default_rng(2).normal(size=spec.out_shape)
    forward = np.vdot(slow_conv(spec, x, w), y)
    assert forward == pytest.approx(np.vdot(x, slow_conv(spec.grad_input(), y, w)))


def test_two_3x3_cover_one_5x5() -> None:
    pair = [tc.conv2d((1, 1, size, size), 1, 3) for size in (5, 3)]
    assert pair[1].out_size == tc.conv2d((1, 1, 5, 5), 1, 5).out_size == (1, 1)
    assert all(first.out_shape == second.x_shape for first, second in pairwise(pair))
    impulse_seen = [
        bool(slow_conv(pair[1], slow_conv(pair[0], x, ones), ones).any())
        for x in np.eye(25).reshape(25, 1, 1, 5, 5)
        for ones in [np.ones((1, 1, 3, 3))]
    ]
    assert impulse_seen == [True] * 25


@pytest.mark.parametrize(("kernel", "even"), [(4, True), (3, False)])
def test_checkerboard(kernel: int, even: bool) -> None:
    """A transposed convolution covers its output evenly only where the stride divides K."""
    spec = tc.conv_transpose2d((1, 1, 6, 6), 1, kernel, stride=2)
    cover = slow_conv(spec, np.ones(spec.x_shape), np.ones(spec.weight_shape))[0, 0]
    inside = cover[kernel:-kernel, kernel:-kernel]
    assert (inside.min() == inside.max()) == even


def test_causal_sees_no_future() -> None:
    spec = tc.conv1d((1, 2, 12), 3, 3, padding="causal", dilation=2)
    x, w = drawn(spec)
    later = x.copy()
    later[..., 7:] = 99.0
    before = slow_conv(spec, x, w)[..., :7]
    np.testing.assert_array_equal(before, slow_conv(spec, later, w)[..., :7])

"""The worked numbers of the field's documents, through compiled kernels."""

import json
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.numeric.proving import level_of
from tvmconv.spec import ConvSpec

SEED_FILE = Path(__file__).parent.parent / "data" / "seed_vectors.json"
SEEDS: dict[str, Any] = json.loads(SEED_FILE.read_text())


def compute(spec: ConvSpec, x: Any, weight: Any) -> Any:
    kernel = tc.compile(spec, level_of(spec))
    arrays = (
        np.array(a, np.float32).reshape(s)
        for a, s in ((x, spec.x_shape), (weight, spec.weight_shape))
    )
    return kernel(*arrays).reshape(spec.out_size)


LINE: dict[str, dict[str, Any]] = {
    "1d_xcorr_valid": {},
    "1d_conv_valid": {"flip": True},
    "1d_conv_full": {"flip": True, "padding": "full"},
    "1d_conv_same": {"flip": True, "padding": "same"},
    "1d_xcorr_same": {"padding": "same"},
}


@pytest.mark.parametrize("name", LINE)
def test_line(name: str) -> None:
    spec = tc.conv1d((1, 1, 5), 1, 3, **LINE[name])
    np.testing.assert_array_equal(compute(spec, [1, 2, 3, 4, 5], [1, 0, -1]), SEEDS[name])


def test_longer_line() -> None:
    spec = tc.conv1d((1, 1, 7), 1, 3)
    got = compute(spec, [1, 2, 3, 4, 5, 6, 7], [1, 0, -1])
    np.testing.assert_array_equal(got, SEEDS["1d7_xcorr"])


SOBEL_X = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
PREWITT_H = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("name", "weight", "flip"),
    [
        ("sobelx", SOBEL_X, False),
        ("sobelx_trueconv", SOBEL_X, True),
        ("sobely", np.transpose(SOBEL_X), False),
        ("prewitt_h", PREWITT_H, False),
    ],
)
def test_edges_of_the_product_picture(name: str, weight: Any, flip: bool) -> None:
    """The picture is 10 r c for r, c = 1..5, whose slope grows with the row."""
    line = np.arange(1, 6)
    picture = 10 * np.outer(line, line)
    spec = tc.conv2d((1, 1, 5, 5), 1, 3, flip=flip)
    np.testing.assert_array_equal(compute(spec, picture, weight), SEEDS[name])


@pytest.mark.parametrize(("name", "flip"), [("torch3x3", False), ("torch3x3_trueconv", True)])
def test_small_square(name: str, flip: bool) -> None:
    spec = tc.conv2d((1, 1, 3, 3), 1, 2, flip=flip)
    got = compute(spec, np.arange(1, 10), [[1, 0], [0, -1]])
    np.testing.assert_array_equal(got, SEEDS[name])


@pytest.mark.parametrize("sizes", SEEDS["outsizes"])
def test_output_sizes(sizes: str) -> None:
    i, k, p, s, *d = literal_eval(sizes)
    spec = tc.conv1d((1, 1, i), 1, k, padding=p, stride=s, dilation=d[0] if d else 1)
    got = compute(spec, np.ones(i), np.ones(k))
    assert got.shape == (SEEDS["outsizes"][sizes],)
    assert got.max() == k


@pytest.mark.parametrize("sizes", SEEDS["transposed"])
def test_transposed_sizes(sizes: str) -> None:
    i, k, p, s, *rest = literal_eval(sizes)
    # The seeds give dilation before output padding where both are there: (I, K, P, S, D, A).
    d, a = (rest + [1, 0][len(rest) :]) if rest else (1, 0)
    spec = tc.conv_transpose1d((1, 1, i), 1, k, padding=p, stride=s, dilation=d, output_padding=a)
    got = compute(spec, np.ones(i), np.ones(k))
    assert got.shape == (SEEDS["transposed"][sizes],)


def test_multiply_adds() -> None:
    wide = tc.conv2d((1, 128, 56, 56), 256, 3, padding=1)
    assert wide.macs == SEEDS["macs"]["3x3 128-256 56"] == 924_844_032
    standard = tc.conv2d((1, 128, 8, 8), 256, 3, padding=1)
    pair = tc.depthwise_separable((1, 128, 8, 8), 256, 3, padding=1)
    assert standard.macs == SEEDS["macs"]["std 8x8"]
    assert sum(spec.macs for spec in pair) == SEEDS["macs"]["dws 8x8"]
    assert sum(spec.params for spec in pair) == SEEDS["macs"]["dws params"]
    ratio = sum(spec.macs for spec in pair) / standard.macs
    assert ratio == pytest.approx(SEEDS["macs"]["ratio"])
    assert ratio == pytest.approx(1 / 256 + 1 / 9)


@pytest.mark.parametrize("layer", [name for name in SEEDS["params"] if "-" in name])
def test_parameters(layer: str) -> None:
    ic, oc, k = layer.removesuffix("nb").split("-")
    spec = tc.conv2d((1, int(ic), 8, 8), int(oc), int(k), bias=not layer.endswith("nb"))
    assert spec.params == SEEDS["params"][layer]


@pytest.mark.parametrize("dilation", SEEDS["dil_eff"])
def test_effective_kernel(dilation: str) -> None:
    """An impulse spreads over 1 + d (k - 1) positions."""
    spec = tc.conv1d((1, 1, 17), 1, 3, dilation=int(dilation), padding="same")
    assert spec.receptive_field == (SEEDS["dil_eff"][dilation],)
    got = compute(spec, np.eye(17)[8], [1, 1, 1])
    touched = np.flatnonzero(got)
    assert touched[-1] - touched[0] + 1 == SEEDS["dil_eff"][dilation]

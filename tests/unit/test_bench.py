"""What a run says as a whole, from invented rows."""

import pytest

import tvmconv as tc
from tvmconv.bench.peers import chosen, names_for
from tvmconv.bench.rows import Row, geometric_mean, layers
from tvmconv.bench.summary import Summary, by_kind, kind_of
from tvmconv.errors import ArgumentError

POINTWISE = tc.conv2d((1, 4, 6, 6), 8, 1, bias=True, activation="relu")
SPEC = tc.conv2d((1, 4, 6, 6), 8, 3, padding=1, bias=True, activation="relu")


def row(contestant: str, seconds: float, status: str = "ok", spec: tc.ConvSpec = SPEC) -> Row:
    return Row(
        spec=str(spec),
        contestant=contestant,
        status=status,
        threads=1,
        flops=spec.flops,
        bytes_moved=spec.bytes_moved,
        min_seconds=seconds,
    )


def test_names_of_peers() -> None:
    assert chosen(["none"]) == []
    assert chosen(["all"]) == ["torch", "onnxruntime", "openvino", "ncnn"]
    assert chosen(["torch,ncnn", "torch"]) == ["torch", "ncnn"]
    assert names_for(["torch_frozen", "torch"], SPEC)[0] == "torch_frozen"
    assert names_for(["torch_grid_sample"], SPEC) == []
    with pytest.raises(
        ArgumentError, match="peers: got 'tourch'; allowed: all, none, torch, torch"
    ):
        names_for(["tourch"], SPEC)
    for name in ("ncnn:3", "metaschedule:0", "metaschedule:many"):
        with pytest.raises(ArgumentError, match=f"got '{name}'"):
            chosen([name])


def test_ratio_is_against_the_best_right_peer() -> None:
    rows = [row("tvmconv", 2.0), row("a", 6.0), row("b", 4.0), row("c", 1.0, "wrong answer")]
    (layer,) = layers(rows)
    assert layer.best_peer is rows[2]
    assert layer.ratio == 2.0
    assert layer.best_of("torch") is None
    assert rows[0].gflops == pytest.approx(SPEC.flops / 2e9)
    (layer,) = layers([row("tvmconv", 2.0, "wrong answer"), row("a", 6.0)])
    assert layer.ratio is None, "a wrong answer wins nothing"


def test_geometric_mean_skips_what_is_missing() -> None:
    assert geometric_mean([2.0, 0.5, None]) == pytest.approx(1.0)
    assert geometric_mean([None]) is None


def test_summary_counts_and_names_the_worst() -> None:
    wide = tc.conv2d((1, 64, 8, 8), 64, 3, padding=1)
    rows = [
        *(row("tvmconv", 1.0), row("torch_nchw", 8.0), row("ncnn", 2.0)),
        *(row("tvmconv", 1.0, spec=POINTWISE), row("torch_nchw", 0.5, spec=POINTWISE)),
        *(row("tvmconv", 1.0, spec=wide), row("ncnn", 9.0, "failed", spec=wide)),
    ]
    every = Summary.of("all", layers(rows))
    assert (every.layers, every.compared, every.won) == (3, 2, 1)
    assert every.to_best == pytest.approx(1.0)
    assert every.to_torch == pytest.approx(2.0)
    assert (every.worst, every.worst_spec) == (0.5, str(POINTWISE))
    assert {one.kind for one in by_kind(layers(rows))} == {
        "3x3 s1, C < 64",
        "1x1 s1",
        "3x3 s1, C >= 64",
    }
    assert Summary.of("none", []).to_best is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("conv2d_n1c8s8x8_o8k3x3_s2", "3x3 s2 and more"),
        ("conv2d_n1c8s8x8_o8k1x1_s2", "1x1 s2 and more"),
        ("conv2d_n1c8s8x8_o8k3x3_g8", "depthwise s1"),
        ("conv2d_n1c8s8x8_o8k3x3_g2", "grouped"),
        ("conv2d_n1c8s8x8_o8k3x3_d2", "dilated"),
        ("conv2d_n1c8s8x8_o8k7x7", "other kernels"),
        ("conv1d_n1c8s8_o8k3", "1-D"),
        ("conv1d_n1c8s8_o8k3_g8", "depthwise 1-D"),
        ("conv3d_n1c8s8x8x8_o8k3x3x3", "3-D"),
        ("convt2d_n1c8s8x8_o8k3x3", "transposed"),
        ("deform2d_n1c8s8x8_o8k3x3", "deformable"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(tc.ConvSpec.parse(text)) == kind

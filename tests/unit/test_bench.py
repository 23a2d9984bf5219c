"""The benchmark with stand-in kernels: what it reports, not how fast anything is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tvmconv.bench import contest, peers
from tvmconv.bench.rows import Row, geometric_mean, layers
from tvmconv.errors import ArgumentError
from tvmconv.operands import Operands
from tvmconv.reference import reference

SPEC = tc.conv2d((1, 4, 6, 6), 8, 3, padding=1, bias=True, activation="relu")


@dataclass(frozen=True)
class StandIn:
    """Has what the benchmark reads of a kernel and answers with torch, off by `error`."""

    spec: tc.ConvSpec
    error: float = 0.0
    threads: int = 1
    text_bytes: int = 1234
    packed_elems: int = 10
    compile_seconds: float = 0.1
    template_id: str = "x86.direct"
    accuracy: str = "direct"
    config: str = "tile=1"
    tier: str = "analytic"

    def bind(self, weight: NDArray[Any], bias: NDArray[Any] | None = None, **named: Any) -> Any:
        def layer(x: NDArray[Any], **per_call: Any) -> NDArray[Any]:
            operands = Operands(x, weight, bias, **named, **per_call)
            return reference(self.spec, operands, "float32") + np.float32(self.error)

        return layer


def compare(kernel: StandIn, names: list[str], threads: int = 1) -> list[Row]:
    with peers.opened(threads) as host:
        return contest.compare(kernel, names, host, seconds=0.0)  # type: ignore[arg-type]


def test_right_answers_give_ok_rows() -> None:
    rows = compare(StandIn(SPEC), ["torch"])
    assert [row.contestant for row in rows] == [
        "tvmconv",
        "torch_nchw",
        "torch_channels_last",
        "torch_frozen",
    ]
    for row in rows:
        assert row.ok, row.detail
        assert row.spec == str(SPEC)
        assert row.max_error is not None
        assert row.bound is not None
        assert 0 <= row.max_error <= row.bound
        assert row.min_seconds is not None
        assert row.median_seconds is not None
        assert 0 < row.min_seconds <= row.median_seconds
        assert row.samples >= 3
    assert rows[0].code_bytes == 1234
    assert rows[0].packed_bytes == 40


def test_tensors_of_a_single_call_are_not_packed() -> None:
    spec = tc.deform_conv2d((1, 4, 6, 6), 4, 3, padding=1, mask=True, residual=True)
    rows = compare(StandIn(spec), ["torch"])
    assert [row.contestant for row in rows][1:] == ["torch_grid_sample", "torch_grid_sample_frozen"]
    assert all(row.ok for row in rows), [row.detail for row in rows]


def test_a_wrong_answer_is_said() -> None:
    ours, *others = compare(StandIn(SPEC, error=1.0), ["torch_nchw"])
    assert ours.status == "wrong answer"
    assert "tvmconv validate" in ours.detail
    assert all(row.ok for row in others)


def test_a_failing_peer_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from tvmconv.bench import torch_peers

    def fail(*_: Any) -> Any:
        raise RuntimeError("\n  could not create a primitive\nmore")

    monkeypatch.setattr(torch_peers, "prepare", fail)
    ours, peer = compare(StandIn(SPEC), ["torch_nchw"])
    assert ours.ok
    assert peer.status == "failed"
    assert peer.detail == "RuntimeError: could not create a primitive"
    assert peer.min_seconds is None
    (layer,) = layers([ours, peer])
    assert layer.ratio is None


def test_several_threads_run_the_peers_elsewhere() -> None:
    ours, peer = compare(StandIn(SPEC, threads=2), ["torch_nchw"], threads=2)
    assert ours.ok
    assert peer.ok, peer.detail
    assert peer.threads == 2


def test_unknown_peer_names_what_is_allowed() -> None:
    with pytest.raises(ArgumentError, match="peers: got 'tourch'; allowed: torch, torch_nchw"):
        peers.names_for(["tourch"], SPEC)


def test_ratio_is_against_the_best_right_peer() -> None:
    def row(contestant: str, seconds: float, status: str = "ok") -> Row:
        return Row(
            spec=str(SPEC),
            contestant=contestant,
            status=status,
            threads=1,
            flops=SPEC.flops,
            bytes_moved=SPEC.bytes_moved,
            min_seconds=seconds,
        )

    rows = [row("tvmconv", 2.0), row("a", 6.0), row("b", 4.0), row("c", 1.0, "wrong answer")]
    (layer,) = layers(rows)
    assert layer.best_peer is rows[2]
    assert layer.ratio == 2.0
    assert rows[0].gflops == pytest.approx(SPEC.flops / 2e9)


def test_geometric_mean_skips_what_is_missing() -> None:
    assert geometric_mean([2.0, 0.5, None]) == pytest.approx(1.0)
    assert geometric_mean([None]) is None

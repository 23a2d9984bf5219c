"""Timing beside torch on a GPU: ours on the stand-in, torch on one for its events and graphs."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tvmconv as tc
from tests.stand_in.kernels import StandIn, add_kernels
from tvmconv import fills
from tvmconv.bench import torch_cuda_peers
from tvmconv.bench.contest import Expected, peer_row
from tvmconv.bench.peers import Prepared
from tvmconv.bench.plain import Plain
from tvmconv.bench.timing import Timing
from tvmconv.bench.torch_cuda_peers import TorchSampler, launcher, names_for
from tvmconv.elements import SHORT_FLOATS
from tvmconv.errors import DeviceError, UnsupportedSpec
from tvmconv.tolerance import DIRECT

SPEC = tc.conv2d((1, 8, 6, 6), 8, 3, padding=1, bias=True)


@pytest.mark.usefixtures("cuda_compiler")
def test_our_row_and_what_torch_says(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tc.compile(SPEC, "cuda")
    assert kernel.built.device is not None
    add_kernels(kernel.built.device, [kernel.image.cubin], stand_in.kernels)
    ours, *others = tc.bench([SPEC], "cuda", peers=["torch"], seconds=0.05)
    assert (ours.contestant, ours.status) == ("tvmconv", "ok")
    assert ours.min_seconds is not None
    assert 0 < ours.min_seconds < 10
    assert ours.code_bytes == kernel.text_bytes > 0
    assert [row.contestant for row in others] == list(names_for(SPEC))
    assert {row.status for row in others} == {"unsupported"}
    assert "torch sees no GPU" in others[0].detail


@pytest.mark.usefixtures("cuda_compiler")
def test_peers_are_compared_and_timed_in_turns(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvmconv.bench import gpu

    kernel = tc.compile(SPEC, "cuda")
    assert kernel.built.device is not None
    add_kernels(kernel.built.device, [kernel.image.cubin], stand_in.kernels)

    def launch(name: str, plain: Plain) -> Callable[[], torch.Tensor]:
        """Torch on the processor, wrong under one name and too large under another."""
        if name.endswith("channels_last"):
            raise DeviceError("GPU memory: too large")
        x, w, b = (
            torch.from_numpy(a) for a in (plain.x, plain.weight, plain.bias) if a is not None
        )
        y = torch.conv2d(x, w, b, padding=1)
        return lambda: y + 1 if name.endswith("tf32") else y

    monkeypatch.setattr(gpu, "launcher", launch)
    monkeypatch.setattr(gpu, "TorchSampler", lambda call: SimpleNamespace(sample=lambda: 1e-4))
    rows = {row.contestant: row for row in gpu.compare_on_gpu(kernel, ["torch"], seconds=0.01)}
    assert rows["tvmconv"].status == "ok"
    assert rows["torch_cuda_nchw"].status == "ok"
    assert rows["torch_cuda_nchw"].min_seconds == 1e-4
    assert rows["torch_cuda_nchw_tf32"].status == "wrong answer"
    assert rows["torch_cuda_channels_last"].status == "failed"
    assert "too large" in rows["torch_cuda_channels_last"].detail


@pytest.mark.parametrize("dtype", SHORT_FLOATS)
def test_a_peer_may_round_after_every_step(dtype: str) -> None:
    spec = replace(SPEC, dtype=dtype)
    operands = fills.normal(spec)
    kernel: Any = SimpleNamespace(spec=spec, accuracy=DIRECT, threads=1)
    plain, kind = Plain.of(spec, operands), getattr(torch, dtype)
    x, w, b = (torch.from_numpy(a).to(kind) for a in (plain.x, plain.weight, plain.bias))
    expected, timing = Expected.of(kernel, operands), Timing.of([1e-4])
    sums = torch.conv2d(x, w, padding=1)
    for moved, status in ((0.0, "ok"), (0.03 * expected.largest, "wrong answer")):
        answer = torch_cuda_peers.read(sums + b[:, None, None]) + moved
        assert peer_row(kernel, Prepared("torch", answer), expected, timing).status == status


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (tc.conv1d((1, 8, 9), 8, 3), ("torch_cuda_nchw", "torch_cuda_nchw_tf32")),
        (
            tc.conv2d((1, 8, 9, 9), 8, 3, dtype="float16"),
            ("torch_cuda_nchw", "torch_cuda_channels_last"),
        ),
        (tc.deform_conv2d((1, 8, 9, 9), 8, 3), ("torch_cuda_grid_sample",)),
    ],
)
def test_names_that_make_sense(spec: tc.ConvSpec, expected: tuple[str, ...]) -> None:
    assert names_for(spec) == expected


def test_torch_without_a_gpu_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("this torch has a GPU")
    plain = Plain.of(SPEC, fills.normal(SPEC))
    with pytest.raises(UnsupportedSpec, match="torch sees no GPU"):
        launcher("torch_cuda_nchw", plain)


class _FakeCuda:
    """Events, streams and graphs of torch.cuda over a clock that only the work moves."""

    def __init__(self, refuses: bool) -> None:
        self.clock, self.refuses = 0.0, refuses
        self.capturing: list[int] | None = None
        fake = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing
                self.at = 0.0

            def record(self) -> None:
                self.at = fake.clock

            def synchronize(self) -> None: ...

            def elapsed_time(self, other: Any) -> float:
                return float(other.at - self.at)

        class CUDAGraph:
            def __init__(self) -> None:
                self.calls = 0

            def replay(self) -> None:
                fake.clock += 0.01 * self.calls

        self.Event, self.CUDAGraph = Event, CUDAGraph

    def Stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def stream(self, stream: Any) -> Any:
        import contextlib

        return contextlib.nullcontext()

    def synchronize(self) -> None: ...

    def graph(self, graph: Any) -> Any:
        import contextlib

        @contextlib.contextmanager
        def capture() -> Any:
            if self.refuses:
                raise RuntimeError("this operation cannot be captured")
            self.capturing = []
            yield
            graph.calls = len(self.capturing)
            self.capturing = None

        return capture()

    def work(self) -> None:
        """A call of 0.05 ms from Python, of which the GPU needs 0.01."""
        if self.capturing is None:
            self.clock += 0.05
        else:
            self.capturing.append(1)


@pytest.mark.parametrize(("refuses", "expected"), [(False, 1e-5), (True, 5e-5)])
def test_graphs_take_the_time_of_launches_out(
    monkeypatch: pytest.MonkeyPatch, refuses: bool, expected: float
) -> None:
    fake = _FakeCuda(refuses)
    monkeypatch.setattr(torch, "cuda", fake)
    sampler = TorchSampler(fake.work)
    assert sampler.graphed is not refuses
    assert sampler.calls == 10  # half a millisecond of 0.05 ms
    assert sampler.sample() == pytest.approx(expected)


def test_failures_of_torch_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", _FakeCuda(False))

    def call() -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED\nmore")

    with pytest.raises(DeviceError, match="torch: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"):
        TorchSampler(call)


def test_the_answer_is_read_as_float32() -> None:
    y = torch_cuda_peers.read(torch.ones(2, 3, dtype=torch.float16))
    assert y.dtype == np.float32

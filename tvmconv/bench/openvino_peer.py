"""OpenVINO as a peer: the ONNX model of one layer, float32, tuned for latency, tensors shared.

| name          | how                                                                            |
|---------------|--------------------------------------------------------------------------------|
| openvino_nchw | tensors as ONNX has them, channels first                                       |
| openvino_nhwc | channels last, at any rank: its convolutions prefer that and reorder nothing   |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmconv.bench import onnx_model
from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Array, Plain, at_cache_line
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

NAMES = ("openvino_nchw", "openvino_nhwc")
SPACE = {1: "W", 2: "HW", 3: "DHW"}


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """Both ways."""
    return NAMES


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Build the peer's request; see tvmconv.bench.peers."""
    import openvino as ov

    if plain.spec.op == "deform_conv":
        raise UnsupportedSpec("OpenVINO reads no DeformConv from ONNX")
    last = name == "openvino_nhwc"
    core = ov.Core()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # whoever starts the run says where it may run
    }
    model = core.read_model(onnx_model.model(plain))
    compiled = core.compile_model(_channels_last(model, plain) if last else model, "CPU", settings)
    request = compiled.create_infer_request()
    held = []
    for key, array in onnx_model.inputs(plain).items():
        ordered = at_cache_line(np.moveaxis(array, 1, -1)) if last else array
        held.append(ov.Tensor(ordered, shared_memory=True))
        request.set_tensor(key, held[-1])

    def call() -> Any:
        # Without sharing, the output would be copied to a new array in every call.
        request.infer(share_inputs=True, share_outputs=True)
        return held

    def read(_: Any) -> Array:
        answer: Array = request.get_output_tensor(0).data
        return np.array(np.moveaxis(answer, -1, 1) if last else answer)

    return Ready(call, read)


def _channels_last(model: Any, plain: Plain) -> Any:
    """The same model with tensors in another order than its nodes have."""
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    space = SPACE[plain.spec.rank]
    change = PrePostProcessor(model)
    ends = [change.input(key) for key in onnx_model.inputs(plain)]
    for end in (*ends, change.output(0)):
        end.tensor().set_layout(Layout(f"N{space}C"))
        end.model().set_layout(Layout(f"NC{space}"))
    return change.build()

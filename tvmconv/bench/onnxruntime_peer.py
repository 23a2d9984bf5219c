"""onnxruntime as a peer: an ONNX model of one layer, all optimisations, inputs and output bound.

Binding costs nothing per call and keeps the output's memory, where `run` with a dictionary makes a
new array each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmconv.bench import onnx_model
from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Plain, at_cache_line
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

NAMES = ("onnxruntime",)
ERRORS_ONLY = 3


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """The one way."""
    return NAMES


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Build the peer's session; see tvmconv.bench.peers."""
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Missing

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    try:
        session = ort.InferenceSession(
            onnx_model.model(plain), options, providers=["CPUExecutionProvider"]
        )
    except Missing as error:
        raise UnsupportedSpec(f"onnxruntime: {str(error).strip().splitlines()[0]}") from None
    spec = plain.spec
    out = at_cache_line(np.zeros((spec.n, spec.oc, *spec.out_size), np.float32))
    binding = session.io_binding()
    held = [ort.OrtValue.ortvalue_from_numpy(a) for a in onnx_model.inputs(plain).values()]
    for key, value in zip(onnx_model.inputs(plain), held, strict=True):
        binding.bind_ortvalue_input(key, value)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    run = session.run_with_iobinding

    def call() -> Any:
        run(binding)
        return held

    return Ready(call, lambda _: out.copy())

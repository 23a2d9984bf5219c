"""torch as a peer: each way a careful user would run one convolution layer with it.

All of them run under `inference_mode`, with batch norm folded into the weights and with the input
already in the memory order the peer likes best; only the layer itself is timed.

| name                     | how                                                        |
|--------------------------|------------------------------------------------------------|
| torch_nchw               | contiguous input and weight                                |
| torch_channels_last      | both in channels_last (channels_last_3d); ranks 2 and 3    |
| torch_frozen             | jit.trace, freeze, optimize_for_inference                  |
| torch_inductor           | torch.compile, with freezing; channels_last as above       |
| torch_grid_sample        | deformable: grid_sample under every tap, then a product    |
| torch_grid_sample_frozen | the same, frozen                                           |
"""

from __future__ import annotations

import os
import shutil
import warnings
from typing import TYPE_CHECKING, Any

from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Array, Plain
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

NAMES = (
    "torch_nchw",
    "torch_channels_last",
    "torch_frozen",
    "torch_inductor",
    "torch_grid_sample",
    "torch_grid_sample_frozen",
)


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """The torch peers that make sense for a spec."""
    if spec.op == "deform_conv":
        return ("torch_grid_sample", "torch_grid_sample_frozen")
    if spec.rank == 1:
        return ("torch_nchw", "torch_frozen", "torch_inductor")
    return ("torch_nchw", "torch_channels_last", "torch_frozen", "torch_inductor")


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Build one peer's layer; see tvmconv.bench.peers."""
    import torch

    from tvmconv.bench import torch_layers

    torch.set_num_threads(threads)
    layer, inputs = torch_layers.module(plain), torch_layers.inputs(plain)
    if name in ("torch_channels_last", "torch_inductor") and plain.spec.rank > 1:
        order = torch.channels_last if plain.spec.rank == 2 else torch.channels_last_3d
        layer = layer.to(memory_format=order)  # type: ignore[call-overload]
        inputs = tuple(t.contiguous(memory_format=order) for t in inputs)
    if name.endswith("_frozen"):
        layer = _freeze(layer, inputs)
    if name == "torch_inductor":
        layer = _compile(layer, inputs)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = layer(*inputs)
            return result

    return Ready(call, _read)


def _read(result: torch.Tensor) -> Array:
    return result.contiguous().numpy()


def _freeze(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    import torch

    with warnings.catch_warnings():
        # Tracing asks whether sizes are constants (they are) and announces its own retirement.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, inputs)  # type: ignore[no-untyped-call]
        frozen: nn.Module = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return frozen


def _compile(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Inductor with constant weights, which it packs for oneDNN when it compiles.

    Sizes are constants; compiling happens here, in this thread, without a pool of workers.

    Raises:
        UnsupportedSpec: it needs a C++ compiler for this layer, and there is none.
    """
    import torch
    from torch._inductor import config

    config.freezing = True
    config.compile_threads = 1
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="inductor", dynamic=False, fullgraph=True)
    try:
        with torch.inference_mode():
            compiled(*inputs)
    except Exception:
        if any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
            raise
        raise UnsupportedSpec("inductor needs a C++ compiler for this layer") from None
    return compiled

"""A stand-in for a compiled kernel: what the benchmark reads of one, answered by torch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tvmconv as tc
from tvmconv.operands import Operands
from tvmconv.reference import reference
from tvmconv.target import load


@dataclass(frozen=True)
class StandIn:
    """Answers with torch, off by `error`."""

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
    target: Any = field(default_factory=load)

    def bind(self, weight: NDArray[Any], bias: NDArray[Any] | None = None, **named: Any) -> Any:
        def layer(
            x: NDArray[Any], out: NDArray[Any] | None = None, **per_call: Any
        ) -> NDArray[Any]:
            operands = Operands(x, weight, bias, **named, **per_call)
            result = reference(self.spec, operands, "float32") + np.float32(self.error)
            if out is None:
                return result
            out[...] = result
            return out

        return layer

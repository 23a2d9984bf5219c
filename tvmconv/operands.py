"""The tensors of one call of a kernel, as one value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Operands:
    """The tensors of one call, in the memory order of the spec; None for what it does not have."""

    x: Array
    weight: Array
    bias: Array | None = None
    scale: Array | None = None
    shift: Array | None = None
    residual: Array | None = None
    offset: Array | None = None
    mask: Array | None = None

    def keywords(self) -> dict[str, Any]:
        """Every tensor that is there but x and weight, by name, as a kernel's call takes them."""
        named = {f.name: getattr(self, f.name) for f in fields(self)[2:]}
        return {name: value for name, value in named.items() if value is not None}

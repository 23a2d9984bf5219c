"""Element types of tensors: how numpy has them, and what floats of 16 bits hold."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import frexp
from typing import Any, Final

import numpy as np

from tvmconv.errors import EnvironmentProblem


@dataclass(frozen=True)
class ShortFloat:
    """Floating-point numbers of 16 bits.

    Attributes:
        bits: of the significand, the one that is not stored among them.
        spacing: distance of the numbers next to zero.
        largest: largest finite number.
    """

    bits: int
    spacing: float
    largest: float

    def nearest(self, number: float) -> float:
        """The number next to a finite one, the even one of two; above `largest` where it is."""
        unit = max(2.0 ** (frexp(number)[1] - self.bits), self.spacing)
        return round(number / unit) * unit + 0.0


SHORT_FLOATS: Final = {
    "float16": ShortFloat(11, 2.0**-24, 65504.0),
    "bfloat16": ShortFloat(8, 2.0**-133, (2.0 - 2.0**-7) * 2.0**127),
}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of an element type; bfloat16, which numpy lacks, is ml_dtypes'.

    Raises:
        EnvironmentProblem: for bfloat16, where ml_dtypes is not installed.
    """
    if name != "bfloat16":
        return np.dtype(name)
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise EnvironmentProblem("ml_dtypes", None, "`pip install ml_dtypes`") from error
    found: np.dtype[Any] = np.dtype(bfloat16)
    return found


def readable(value: Any) -> Any:
    """What numpy reads a torch tensor of this process's memory from; anything else as it is.

    A parameter without its gradient, bfloat16 as an array: numpy takes neither by itself.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    plain = value.detach()
    if plain.dtype != torch.bfloat16:
        return plain
    return plain.view(torch.int16).numpy().view(numpy_dtype("bfloat16"))

"""Test inputs and answers that a bundle carries, made alike in Python and in C (selftest.c).

Inputs are not stored: value i of a tensor is a hash of i, brought to a few small numbers whose
sums are exact in float32. Of the answer a golden file keeps some samples, and, where the answer
is exact, a checksum over the bits of every output. docs/bundle-format.md has the layout.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_HEADER = struct.Struct("<8sQIIfI")
_MAGIC = b"TVCGOLD1"


def fill(seed: int, count: int, low: float, step: float, size: int) -> Array:
    """Test values low + step * (0 .. count-1), spread by a hash of their index."""
    h = np.arange(size, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return np.float32(low) + np.float32(step) * (h % np.uint32(count)).astype(np.float32)


def golden_inputs(entry: Mapping[str, Any]) -> dict[str, Array]:
    """The self-test's tensors by name, from the manifest's entry of a kernel."""
    inputs = {}
    for name, tensor in entry["tensors"].items():
        if "fill" in tensor:
            seed, count, low, step = tensor["fill"]
            values = fill(seed, count, low, step, prod(tensor["shape"]))
            inputs[name] = values.reshape(tensor["shape"])
    return inputs


def digest(y: Array) -> int:
    """Checksum over the bits of every output, -0 read as +0."""
    flat = np.ascontiguousarray(y, np.float32).reshape(-1) + np.float32(0.0)
    m = np.arange(flat.size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    m = (m ^ flat.view(np.uint32)) * np.uint64(0xBF58476D1CE4E5B9)
    m ^= m >> np.uint64(31)
    return int(np.sum(m, dtype=np.uint64))


@dataclass(frozen=True)
class Golden:
    """The answer that a kernel must give.

    Attributes:
        exact: whether every output must have the bits that `checksum` stands for.
        checksum: `digest` of the outputs when exact, otherwise 0.
        tolerance: largest absolute difference of a sample.
        at: indices of the samples in the flat output.
        values: the samples.
    """

    exact: bool
    checksum: int
    tolerance: float
    at: Array
    values: Array

    @staticmethod
    def of(y: Array, tolerance: float, samples: int) -> Golden:
        """Keep at most `samples` outputs of the right answer `y`, the first and the last among."""
        flat = np.ascontiguousarray(y, np.float32).reshape(-1)
        at = np.unique(np.linspace(0, max(flat.size - 1, 0), min(samples, flat.size)).astype("<u8"))
        # An even step would hit the same channels again and again: move all but the ends.
        step = max(flat.size // samples, 1)
        at[1:-1] += fill(1, step, 0.0, 1.0, at[1:-1].size).astype("<u8")
        checksum = digest(flat) if tolerance == 0.0 else 0
        return Golden(tolerance == 0.0, checksum, tolerance, at, flat[at.astype(np.int64)])

    def encode(self) -> bytes:
        """The content of a golden file."""
        header = (_MAGIC, self.checksum, int(self.exact), self.at.size, self.tolerance, 0)
        return _HEADER.pack(*header) + self.at.tobytes() + self.values.astype("<f4").tobytes()

    @staticmethod
    def decode(data: bytes) -> Golden:
        """The answer that a golden file holds."""
        _, checksum, exact, count, tolerance, _ = _HEADER.unpack_from(data)
        at = np.frombuffer(data, "<u8", count, _HEADER.size)
        values = np.frombuffer(data, "<f4", count, _HEADER.size + 8 * count)
        return Golden(bool(exact), checksum, tolerance, at, values)

    def problem(self, y: Array) -> str | None:
        """What is wrong with an output, or None."""
        got = y.reshape(-1)[self.at.astype(np.int64)]
        error = np.abs(got.astype(np.float64) - self.values)
        wrong = ~(error <= self.tolerance)  # a NaN is wrong
        if wrong.any():
            i = int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)))
            wanted = f"expected {self.values[i]:.9g} within {self.tolerance:.3g}"
            return f"output {self.at[i]} is {got[i]:.9g}, {wanted}"
        if self.exact and digest(y) != self.checksum:
            return "the samples are right, but not every output: the checksum differs"
        return None


@dataclass(frozen=True)
class SelfTestRow:
    """What the self-test found of one kernel."""

    symbol: str
    ok: bool
    text: str


@dataclass(frozen=True)
class SelfTest:
    """What the self-test found of every kernel."""

    rows: tuple[SelfTestRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every kernel gave its golden answer."""
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        return "\n".join(f"{'ok  ' if r.ok else 'FAIL'} {r.symbol}: {r.text}" for r in self.rows)

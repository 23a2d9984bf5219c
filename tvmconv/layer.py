"""A kernel with packed weights: called often, so every microsecond around the call counts."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.errors import ArgumentError

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

Tensor = Any
Array = NDArray[np.float32]


class Layer:
    """A kernel with its packed weights: ``y = layer(x)``."""

    def __init__(self, kernel: Kernel, packed: Array, packed_at: int, threads: int) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise ArgumentError("threads", threads, "an int >= 1")
        self.kernel = kernel
        self.packed = packed
        self._packed_at = packed_at
        self._threads = threads
        spec = kernel.spec
        self._x_shape, self._out_shape = spec.x_shape, spec.out_shape
        self._out_elems = prod(spec.out_shape)
        self._plain = not kernel.needs
        self._function = kernel._library.run
        self._check = kernel._library.check

    def __call__(
        self,
        x: Tensor,
        *,
        residual: Tensor | None = None,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Compute y; numpy in, numpy out, and torch in, torch out.

        Args:
            x: shape ``spec.x_shape``; any strides and alignment.
            residual: shape ``spec.out_shape``, exactly when the spec has one.
            offset: shape ``spec.offset_shape``, for deformable convolutions.
            mask: shape ``spec.mask_shape``, exactly when the spec has one.
            out: a dense tensor of shape ``spec.out_shape`` to write into.

        Raises:
            ArgumentError: a tensor that is missing, not asked for, or of the wrong shape or dtype.
        """
        plain, x_at = tensors.dense("x", x, self._x_shape)
        like_torch = not isinstance(x, np.ndarray)
        extra: tuple[int | None, int | None, int | None] = (None, None, None)
        kept: Any = plain
        if not self._plain or residual is not None or offset is not None or mask is not None:
            kept, extra = self._extras(residual, offset, mask)
        if out is not None:
            y, y_at = tensors.check_out(out, self._out_shape, like_torch)
            y = out
        elif like_torch:
            y, y_at = tensors.empty_torch(self._out_shape)
        else:
            y, y_at = tensors.empty_numpy(self._out_shape, self._out_elems)
        status = self._function(x_at, self._packed_at, *extra, y_at, self._threads)
        if status:
            self._check(status)
        del kept
        return y

    def _extras(
        self, residual: Tensor | None, offset: Tensor | None, mask: Tensor | None
    ) -> tuple[list[Tensor], tuple[int | None, int | None, int | None]]:
        spec = self.kernel.spec
        kept: list[Tensor] = []
        addresses: list[int | None] = []
        for name, value, shape in (
            ("residual", residual, spec.out_shape),
            ("offset", offset, spec.offset_shape),
            ("mask", mask, spec.mask_shape),
        ):
            wanted = name in self.kernel.needs
            if (value is not None) != wanted:
                allowed = f"a tensor of shape {shape}" if wanted else "nothing: not in the spec"
                raise ArgumentError(name, None if value is None else "a tensor", allowed)
            if value is None:
                addresses.append(None)
                continue
            plain, at = tensors.dense(name, value, shape)
            kept.append(plain)
            addresses.append(at)
        return kept, (addresses[0], addresses[1], addresses[2])

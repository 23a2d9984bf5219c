"""A GPU's kernel with packed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvmconv.cuda.arch import pick_code
from tvmconv.cuda.calls import GpuRun, Tensors, Weights
from tvmconv.cuda.driver import Device
from tvmconv.cuda.program import Program
from tvmconv.errors import DeviceError

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

Tensor = Any


class GpuLayer:
    """A kernel with its packed weights: ``y = layer(x)``.

    Attributes:
        kernel: what it computes with.
        packed: the weights, in this process's memory; a copy stays on each GPU that was used.
    """

    def __init__(self, kernel: Kernel, packed: Any) -> None:
        """Take what `Kernel.pack` returned."""
        self.kernel, self._weights = kernel, Weights(packed)

    @property
    def packed(self) -> Any:
        """The packed weights, 1-D, in this process's memory."""
        return self._weights.array

    def __call__(
        self,
        x: Tensor,
        *,
        residual: Tensor | None = None,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Compute y: a torch tensor on the GPU of x, or a numpy array for a numpy array.

        On torch's current stream; nothing is waited for. Numpy arrays are copied to the first GPU
        and back.

        Args:
            x: shape ``spec.x_shape``.
            residual: shape ``spec.out_shape``, exactly when the spec has one.
            offset: shape ``spec.offset_shape``, for deformable convolutions.
            mask: shape ``spec.mask_shape``, exactly when the spec has one.
            out: a dense tensor of shape ``spec.out_shape`` to write into.

        Raises:
            ArgumentError: a tensor that is missing, not asked for, of the wrong kind, shape or
                dtype, or not where x is.
            DeviceError: no GPU, one that runs no code of this kernel, or not enough memory.
        """
        run = self.kernel.gpu_run
        return run(x, self._weights, out, residual=residual, offset=offset, mask=mask)


def gpu_run(kernel: Kernel) -> GpuRun:
    """What runs a kernel on this machine's GPUs; its code is compiled when it is first called."""
    spec, code = kernel.spec, kernel.built.device
    assert code is not None, f"{kernel.target.id} has no device code"
    shapes = {
        "x": spec.x_shape,
        "packed": (kernel.packed_elems,),
        "residual": spec.out_shape,
        "offset": spec.offset_shape,
        "mask": spec.mask_shape,
        "y": spec.out_shape,
    }

    def load(device: Device) -> Program:
        arch = kernel.target.isa + code.arch_suffix
        picked = pick_code([arch], device.capability)
        if picked is None:
            allowed = f"a GPU that runs code for {arch}"
            raise DeviceError(f"{kernel.symbol}: GPU", str(device), allowed)
        if not code.launches:
            return Program(device, code, b"", kernel.symbol)
        image = kernel.image
        data = image.cubin if picked[1] == "cubin" else image.ptx.encode()
        return Program(device, code, data, kernel.symbol)

    return GpuRun(Tensors(spec.dtype, shapes, kernel.needs), load)

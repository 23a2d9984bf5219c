"""The kernels of a bundle for GPUs, called as a kernel is that was just compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tvmconv.cuda.calls import OPTIONAL, GpuRun, Tensors, Weights
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.driver import Device, driver
from tvmconv.cuda.program import Program
from tvmconv.elements import numpy_dtype, readable
from tvmconv.errors import ArgumentError, DeviceError

from .tensors import Array, as_numpy, fold_batch_norm


class CudaHost(Protocol):
    """What a kernel needs of its bundle."""

    @property
    def target(self) -> str:
        """Id of the target whose code the first GPU runs."""

    def pick(self, device: Device) -> tuple[str, str]:
        """Target and kind of code ("cubin", "ptx") that a GPU runs."""

    def content(self, path: str) -> bytes:
        """A file of the bundle."""


class CudaKernel:
    """One compiled convolution of a bundle.

    Attributes:
        symbol: name of its C functions, before `_pack` and `_run`.
        spec: the convolution's canonical text.
        dtype: of all tensors.
        shapes: of every tensor, by name, in memory order.
        packed_elems: values that hold the packed weights of any target.
        entry: its part of the manifest.
    """

    def __init__(self, entry: dict[str, Any], bundle: CudaHost) -> None:
        """Take the manifest's entry; code is loaded when it is first called."""
        self.entry, self._bundle = entry, bundle
        self.symbol: str = entry["symbol"]
        self.spec: str = entry["spec"]
        self.dtype: str = entry["dtype"]
        self.shapes = {name: tuple(t["shape"]) for name, t in entry["tensors"].items()}
        self.packed_elems: int = self.shapes["packed"][0]
        tensors = Tensors(self.dtype, self.shapes, frozenset(entry["run"]) & set(OPTIONAL))
        self._run = GpuRun(tensors, lambda device: self._program(device, "run"))
        self._packing: Program | None = None

    def pack(
        self,
        weight: Any,
        bias: Any = None,
        *,
        scale: Any = None,
        shift: Any = None,
        batch_norm: tuple[Any, Any, Any, Any, float] | None = None,
    ) -> Array:
        """Bring weights into the order that `run` reads, on the first GPU; the result is here.

        Args:
            weight: in the shape of `shapes["weight"]`; numpy, or torch on any device.
            bias: one value per output channel, when the spec has one.
            scale: the same, when the spec has scale and shift.
            shift: the same.
            batch_norm: (mean, variance, gamma, beta, eps), folded into weight and bias; needs a
                spec with a bias, and then `bias` may be left out (zeros).

        Raises:
            ArgumentError: a tensor is missing, not asked for, or of another shape or dtype.
            DeviceError: there is no GPU that runs the code, or no memory.
        """
        given = {"weight": weight, "bias": bias, "scale": scale, "shift": shift}
        if batch_norm is not None:
            given |= self._fold(weight, bias, batch_norm)
        arrays = {name: self._array(name, value) for name, value in self._wanted(given).items()}
        if self._packing is None:
            self._packing = self._program(driver().device(0), "pack")
        device = self._packing.device
        buffers = {n: device.upload(a.ctypes.data, a.nbytes) for n, a in arrays.items()}
        packed = np.zeros(self.packed_elems, numpy_dtype(self.dtype))
        buffers["packed"] = device.upload(packed.ctypes.data, packed.nbytes)
        size = self._packing.workspace_bytes
        workspace = device.allocate(size) if size else None
        addresses = {name: buffer.address for name, buffer in buffers.items()}
        self._packing.launch(addresses, workspace.address if workspace else 0, 0)
        device.download(buffers["packed"], packed.ctypes.data)
        return packed

    def run(self, x: Any, packed: Any, *, out: Any = None, **extras: Any) -> Any:
        """Run with packed weights; torch tensors on a GPU in place, numpy arrays by copies.

        Args:
            x: input in the shape of `shapes["x"]`.
            packed: what `pack` returned; `bind` copies it to the GPU once, this at every call.
            out: tensor that takes the result; default: a new one.
            extras: residual, offset and mask, where the spec has them.

        Raises:
            ArgumentError: a tensor is missing, not asked for, of another shape or dtype, or not
                where x is.
            DeviceError: there is no GPU that runs the code, or no memory.
        """
        return CudaLayer(self, packed)(x, out=out, **extras)

    def bind(self, weight: Any, bias: Any = None, **extra: Any) -> CudaLayer:
        """Pack weights once and return the layer; the arguments are those of `pack`."""
        return CudaLayer(self, self.pack(weight, bias, **extra))

    def __call__(
        self,
        x: Any,
        weight: Any,
        bias: Any = None,
        *,
        scale: Any = None,
        shift: Any = None,
        batch_norm: tuple[Any, Any, Any, Any, float] | None = None,
        **run: Any,
    ) -> Any:
        """Pack and run; `bind` saves the packing when there is more than one input."""
        packed = self.pack(weight, bias, scale=scale, shift=shift, batch_norm=batch_norm)
        return self.run(x, packed, **run)

    def _program(self, device: Device, kind: str) -> Program:
        target, form = self._bundle.pick(device)
        if target != self._bundle.target:
            allowed = f"one that runs the code for {self._bundle.target}, as the first GPU does"
            raise DeviceError("GPU", str(device), allowed)
        part = self.entry["targets"][target][kind]
        path = part[form]
        if path is None and part["launches"]:
            allowed = f"one that runs {part['cubin']}: there is no PTX of this kernel"
            raise DeviceError("GPU", str(device), allowed)
        image = b"" if path is None else self._bundle.content(path)
        return Program(device, DeviceCode.from_entry(part), image, path or self.symbol)

    def _wanted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors that pack takes."""
        for name, value in given.items():
            if (value is not None) != (name in self.entry["pack"]):
                state = None if value is None else "a tensor"
                none = f"none: {self.spec} has no {name}"
                allowed = f"a tensor of shape {self.shapes[name]}" if value is None else none
                raise ArgumentError(name, state, allowed)
        return {name: value for name, value in given.items() if value is not None}

    def _array(self, name: str, value: Any) -> Array:
        array = _on_host(name, value)
        if array.dtype != numpy_dtype(self.dtype):
            raise ArgumentError(f"{name}: dtype", str(array.dtype), self.dtype)
        if array.shape != self.shapes[name]:
            raise ArgumentError(f"{name}: shape", array.shape, str(self.shapes[name]))
        return np.ascontiguousarray(array)

    def _fold(self, weight: Any, bias: Any, batch_norm: Any) -> dict[str, Any]:
        """Weight and bias of the convolution with its batch norm."""
        if "bias" not in self.entry["pack"]:
            allowed = "only a spec with bias=True can hold its shift"
            raise ArgumentError("batch_norm", "a tuple", allowed)
        norm = [_on_host("batch_norm", value) for value in batch_norm[:4]]
        start = np.zeros(self.shapes["bias"]) if bias is None else self._array("bias", bias)
        fold = self.entry["fold"]
        mean, variance, gamma, beta = norm
        folded = fold_batch_norm(
            self._array("weight", weight), start, (mean, variance, gamma, beta, batch_norm[4]),
            fold["axis"], fold["groups"],
        )  # fmt: skip
        dtype = numpy_dtype(self.dtype)
        return dict(zip(("weight", "bias"), (a.astype(dtype) for a in folded), strict=True))

    def __repr__(self) -> str:
        return f"<CudaKernel {self.spec}>"


def _on_host(name: str, value: Any) -> Array:
    """An array, or a torch tensor of any device and type, as an array in this process's memory."""
    return as_numpy(name, readable(value.detach().cpu() if hasattr(value, "detach") else value))


class CudaLayer:
    """A kernel with packed weights, which stay on each GPU that was used.

    Attributes:
        kernel: what it computes with.
    """

    def __init__(self, kernel: CudaKernel, packed: Any) -> None:
        """Take what `CudaKernel.pack` returned."""
        array = _on_host("packed", packed)
        wanted = (numpy_dtype(kernel.dtype), (kernel.packed_elems,))
        if (array.dtype, array.shape) != wanted:
            given = f"{array.dtype} of shape {array.shape}"
            raise ArgumentError("packed", given, f"{kernel.dtype} of shape {wanted[1]}")
        self.kernel, self._weights = kernel, Weights(array)

    def __call__(self, x: Any, *, out: Any = None, **extras: Any) -> Any:
        """Run on `x`; the keywords are those of `CudaKernel.run`."""
        return self.kernel._run(x, self._weights, out, **extras)

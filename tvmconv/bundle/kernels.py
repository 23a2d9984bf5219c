"""The kernels of a bundle, called as a kernel is that was just compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tvmconv.errors import ArgumentError, BundleError

from .tensors import Array, aligned, as_numpy, checked, fold_batch_norm, like, output, plain

RUN_TENSORS = ("x", "packed", "residual", "offset", "mask", "y")
PACK_TENSORS = ("weight", "bias", "scale", "shift", "packed")


class Host(Protocol):
    """What a kernel needs of its bundle."""

    @property
    def target(self) -> str:
        """Id of the target whose code runs."""

    def open(self) -> ctypes.CDLL:
        """The library."""


class BundledKernel:
    """One compiled convolution of a bundle.

    Attributes:
        symbol: name of its C functions, before `_pack` and `_run`.
        spec: the convolution's canonical text.
        threads: threads of a call that does not say.
        packed_elems: float32 values that hold the packed weights of any target.
        text_bytes: size of its machine code, that of all targets together.
        shapes: of every tensor, by name, in memory order.
        entry: its part of the manifest.
    """

    def __init__(self, entry: dict[str, Any], bundle: Host) -> None:
        """Take the manifest's entry; the bundle's library is opened at the first call."""
        self.entry, self._bundle = entry, bundle
        self.symbol: str = entry["symbol"]
        self.spec: str = entry["spec"]
        self.threads: int = entry["threads"]
        self.text_bytes = sum(int(code["text_bytes"]) for code in entry["targets"].values())
        self.shapes = {name: tuple(t["shape"]) for name, t in entry["tensors"].items()}
        self.packed_elems: int = self.shapes["packed"][0]
        self._functions: dict[str, Any] = {}

    @property
    def target(self) -> str:
        """Id of the target whose code runs; packed weights are in its order."""
        return self._bundle.target

    def pack(
        self,
        weight: Any,
        bias: Any = None,
        *,
        scale: Any = None,
        shift: Any = None,
        batch_norm: tuple[Any, Any, Any, Any, float] | None = None,
    ) -> Array:
        """Bring weights into the order that `run` reads; float32, 64-byte aligned.

        The order is that of `target`: packed weights are of no use to another one.

        Args:
            weight: in the shape of `shapes["weight"]`.
            bias: one value per output channel, when the spec has one.
            scale: the same, when the spec has scale and shift.
            shift: the same.
            batch_norm: (mean, variance, gamma, beta, eps), folded into weight and bias; needs a
                spec with a bias, and then `bias` may be left out (zeros).

        Raises:
            ArgumentError: a tensor is missing, not asked for, or of another shape or dtype.
        """
        given = {"weight": weight, "bias": bias, "scale": scale, "shift": shift}
        if batch_norm is not None:
            given |= self._fold(weight, bias, batch_norm)
        arrays = self._arrays(given, self.entry["pack"])
        packed = aligned(self.packed_elems)
        self._call("pack", PACK_TENSORS, {**arrays, "packed": packed})
        return packed

    def run(
        self,
        x: Any,
        packed: Any,
        *,
        residual: Any = None,
        offset: Any = None,
        mask: Any = None,
        out: Any = None,
        threads: int | None = None,
    ) -> Any:
        """Run with packed weights; the result is of x's kind (numpy or torch).

        Tensors are numpy arrays, or anything that numpy can read; strided ones are copied.

        Args:
            x: input in the shape of `shapes["x"]`.
            packed: what `pack` returned.
            residual: only for specs that have it, like `offset` and `mask`.
            offset: sampling offsets of a deformable convolution.
            mask: its factors.
            out: array that takes the result; default: a new one.
            threads: most threads to use; default: `self.threads`.

        Raises:
            ArgumentError: a tensor is missing, not asked for, or of another shape or dtype.
        """
        given = {"x": x, "packed": packed, "residual": residual, "offset": offset, "mask": mask}
        arrays = self._arrays(given, self.entry["run"])
        y = output(out, self.shapes["y"], arrays.values())
        if y.size:
            count = self.threads if threads is None else int(threads)
            self._call("run", RUN_TENSORS, {**arrays, "y": y}, count)
        if out is None:
            return like(x, y)
        shown = as_numpy("out", out)
        if not np.may_share_memory(shown, y):
            shown[...] = y
        return out

    def bind(
        self, weight: Any, bias: Any = None, *, threads: int | None = None, **extra: Any
    ) -> BundledLayer:
        """Pack weights once and return the layer; the arguments are those of `pack`."""
        count = self.threads if threads is None else threads
        return BundledLayer(self, self.pack(weight, bias, **extra), count, self.target)

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

    def _arrays(self, given: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Array]:
        for name, value in given.items():
            if value is not None and name not in wanted:
                raise ArgumentError(name, "a tensor", f"none: {self.spec} has no {name}")
        names = [name for name in wanted if name in given]
        for name in names:
            if given[name] is None:
                raise ArgumentError(name, None, f"float32 of shape {self.shapes[name]}")
        return {name: plain(name, given[name], self.shapes[name]) for name in names}

    def _fold(self, weight: Any, bias: Any, batch_norm: Any) -> dict[str, Any]:
        """Weight and bias of the convolution with its batch norm."""
        if "bias" not in self.entry["pack"]:
            allowed = "only a spec with bias=True can hold its shift"
            raise ArgumentError("batch_norm", "a tuple", allowed)
        oc = self.shapes["bias"]
        vectors = dict(zip(("mean", "variance", "gamma", "beta"), batch_norm, strict=False))
        norm = [checked(name, value, oc) for name, value in vectors.items()]
        start = np.zeros(oc) if bias is None else checked("bias", bias, oc)
        plain_weight = checked("weight", weight, self.shapes["weight"])
        fold = self.entry["fold"]
        folded = fold_batch_norm(
            plain_weight, start, (*norm, batch_norm[4]), fold["axis"], fold["groups"]
        )
        return dict(zip(("weight", "bias"), folded, strict=True))

    def _call(
        self, kind: str, order: Sequence[str], arrays: Mapping[str, Array], *threads: int
    ) -> None:
        library = self._bundle.open()
        function = self._functions.get(kind)
        if function is None:
            function = getattr(library, f"{self.symbol}_{kind}")
            function.argtypes = [ctypes.c_void_p] * len(order) + [ctypes.c_int32] * len(threads)
            function.restype = ctypes.c_int32
            self._functions[kind] = function
        pointers = [arrays[name].ctypes.data if name in arrays else None for name in order]
        code = function(*pointers, *threads)
        if code != 0:
            text = library.tvmconv_error_text(code).decode()
            raise BundleError(f"{self.symbol}_{kind}: {text} (code {code})")

    def __repr__(self) -> str:
        return f"<BundledKernel {self.spec}>"


@dataclass(frozen=True)
class BundledLayer:
    """A kernel with packed weights, the threads of a call that does not say, and their target."""

    kernel: BundledKernel
    packed: Array
    threads: int
    target: str

    def __call__(self, x: Any, **extra: Any) -> Any:
        """Run on `x`; the keywords are those of `BundledKernel.run`.

        Raises:
            ArgumentError: the bundle has been switched to another target since, or what `run` says.
        """
        if self.target != self.kernel.target:
            allowed = f"weights that were packed for {self.kernel.target}; bind them again"
            raise ArgumentError("layer", f"weights packed for {self.target}", allowed)
        return self.kernel.run(x, self.packed, **({"threads": self.threads} | extra))

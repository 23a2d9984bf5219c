"""Kernels: compiled convolutions that run here, behind the same C functions that a bundle ships."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.batch_norm import BatchNorm, fold_batch_norm
from tvmconv.build import Built
from tvmconv.cuda.calls import GpuRun
from tvmconv.cuda.compiler import Image, compile_source
from tvmconv.cuda.layer import GpuLayer, gpu_run
from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError
from tvmconv.layer import Layer
from tvmconv.library import Library, open_library
from tvmconv.runtime import KernelSymbol
from tvmconv.runtime.objects import text_bytes
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import Target
from tvmconv.template import Task
from tvmconv.tolerance import DEFAULT_MAX_ERROR, get_accuracy

Tensor = Any
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled convolution. Frozen, re-entrant, and safe to call from several threads.

    Attributes:
        spec: what it computes.
        target: what it was compiled for.
        template_id: the schedule it came from.
        algorithm: the algorithm of that template.
        accuracy: the entry of tolerance.ACCURACIES that bounds its answers.
        config: the schedule's config.
        tier: where the config came from: "tuned", "predicted", "analytic" (choose.py) or "forced".
        threads: default thread count of a call.
        symbol: name of the C functions, ``<symbol>_run`` and ``<symbol>_pack``.
        built: machine code and listings.
        compile_seconds: what compiling took.
    """

    spec: ConvSpec
    target: Target
    template_id: str
    algorithm: str
    accuracy: str
    config: Config
    tier: str
    threads: int
    symbol: str
    built: Built = field(repr=False)
    compile_seconds: float

    @property
    def task(self) -> Task:
        """What the kernel solves, with a ``max_error`` that allows its config."""
        error = max(DEFAULT_MAX_ERROR, get_accuracy(self.accuracy).relative_error)
        return Task(self.spec, self.target, self.threads, error)

    @property
    def object_bytes(self) -> bytes:
        """ELF object with the kernel's entry points."""
        return self.built.object_bytes

    @property
    def packed_elems(self) -> int:
        """Values of the packed weights, of the spec's dtype."""
        return self.built.packed_elems

    @property
    def workspace_bytes(self) -> int:
        """Most memory that a call of run takes beside its stack, with one thread."""
        return self.built.workspace_bytes

    @property
    def text_bytes(self) -> int:
        """Bytes of machine code; a GPU's is compiled for it."""
        if self.built.device is not None:
            code = self.image.usage if self.built.device.launches else ()
            return sum(one.code_bytes for one in code)
        return text_bytes(self.object_bytes)

    @property
    def entries(self) -> dict[str, str]:
        """TVM's names of the two functions in the object."""
        return {kind: f"__tvm_ffi_{self.symbol}_{kind}" for kind in ("run", "pack")}

    @property
    def c_symbol(self) -> KernelSymbol:
        """What the C wrappers need to know."""
        return KernelSymbol(
            self.symbol,
            self.built.run_args,
            self.built.pack_args,
            self.target.cpu_features,
            empty=self.spec.n == 0,
        )

    @property
    def needs(self) -> frozenset[str]:
        """Tensors beside x that a call takes."""
        return frozenset(self.built.run_args) & {"residual", "offset", "mask"}

    def inspect(self, what: str) -> str:
        """A listing: "trace", "tir", and "asm" or, of a GPU's kernel, "cuda", "ptx" and "sass".

        Raises:
            ArgumentError: no such listing.
            EnvironmentProblem: a CUDA compiler or disassembler is wanted and missing.
        """
        built, device = self.built, self.built.device
        listings = {"trace": lambda: built.trace, "tir": lambda: built.loops} if built.trace else {}
        if device is None:
            listings["asm"] = lambda: built.asm
        else:
            from tvmconv.cuda import sass

            listings["cuda"] = lambda: device.source
            listings["ptx"] = lambda: self.image.ptx
            listings["sass"] = lambda: sass.listing(self.image.cubin)
        if what not in listings:
            raise ArgumentError("what", what, ", ".join(listings))
        return listings[what]()

    @cached_property
    def image(self) -> Image:
        """Machine code of a GPU's kernel, compiled when it is first asked for.

        Raises:
            EnvironmentProblem: there is no CUDA compiler.
            BuildFailed: it refused the source.
        """
        device = self.built.device
        assert device is not None, f"{self.target.id} has no device code"
        return compile_source(device.source, self.target.isa + device.arch_suffix)

    @cached_property
    def gpu_run(self) -> GpuRun:
        """What runs a GPU's kernel on the GPUs of this machine."""
        return gpu_run(self)

    @cached_property
    def _library(self) -> Library:
        return open_library(self.object_bytes, self.c_symbol, self.target)

    @cached_property
    def _packer(self) -> Library:
        if self.target.runs_here and self.target.gpu is None:
            return self._library
        from tvmconv.packing import packing_library

        return packing_library(self)

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        batch_norm: BatchNorm | None = None,
    ) -> Array:
        """Bring weights into the kernel's own layout, once.

        Works for kernels of other machines too, so that `export` can ship packed weights. Those
        of a GPU are packed by this machine's processor, and tensors that are on a GPU copied.

        Args:
            weight: shape ``spec.weight_shape``.
            bias: one value per output channel; exactly when the spec has a bias.
            scale: the same, for scale_shift.
            shift: the same, for scale_shift.
            batch_norm: (mean, variance, gamma, beta, eps), folded into weight and bias; needs a
                spec with a bias, and then ``bias`` may be left out (zeros).

        Returns:
            1-D of the spec's dtype, ``packed_elems`` long, 64-byte aligned.

        Raises:
            ArgumentError: a tensor that is missing, not asked for, or of the wrong shape or dtype.
        """
        spec = self.spec
        if self.target.gpu is not None:
            weight, bias, scale, shift = map(tensors.to_host, (weight, bias, scale, shift))
        if batch_norm is not None:
            weight, bias = fold_batch_norm(spec, weight, bias, batch_norm)
        given = {"bias": bias, "scale": scale, "shift": shift}
        wanted = {"bias": spec.bias, "scale": spec.scale_shift, "shift": spec.scale_shift}
        kept, addresses = [], {}
        dtype = numpy_dtype(spec.dtype)
        plain, addresses["weight"] = tensors.dense("weight", weight, spec.weight_shape, dtype)
        kept.append(plain)
        for name, value in given.items():
            if (value is not None) != wanted[name]:
                state = "a tensor" if value is not None else None
                allowed = (
                    f"a tensor of shape ({spec.oc},)"
                    if wanted[name]
                    else "nothing: not in the spec"
                )
                raise ArgumentError(name, state, allowed)
            if value is not None:
                plain, addresses[name] = tensors.dense(name, value, (spec.oc,), dtype)
                kept.append(plain)
        shape = (self.packed_elems,)
        packed, addresses["packed"] = tensors.empty_numpy(shape, self.packed_elems, dtype)
        self._packer.call_pack(addresses)
        return packed

    def run(
        self,
        x: Tensor,
        packed: Array,
        *,
        residual: Tensor | None = None,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
        out: Tensor | None = None,
        threads: int | None = None,
    ) -> Tensor:
        """Compute with packed weights; the result is of x's kind (numpy or torch).

        Raises:
            ArgumentError: a tensor that is missing, not asked for, or of the wrong shape or dtype.
        """
        layer = self._layer(packed, threads)
        return layer(x, residual=residual, offset=offset, mask=mask, out=out)

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        residual: Tensor | None = None,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
        batch_norm: BatchNorm | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Pack and run at once; ``bind`` is the way to call often."""
        packed = self.pack(weight, bias, scale=scale, shift=shift, batch_norm=batch_norm)
        return self.run(x, packed, residual=residual, offset=offset, mask=mask, out=out)

    def bind(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        batch_norm: BatchNorm | None = None,
        threads: int | None = None,
    ) -> Layer | GpuLayer:
        """Pack once and return a callable layer; arguments as in ``pack``."""
        packed = self.pack(weight, bias, scale=scale, shift=shift, batch_norm=batch_norm)
        return self._layer(packed, threads)

    def _layer(self, packed: Array, threads: int | None) -> Layer | GpuLayer:
        shape, dtype = (self.packed_elems,), numpy_dtype(self.spec.dtype)
        packed, at = tensors.dense("packed", packed, shape, dtype)
        if self.target.gpu is not None:
            return GpuLayer(self, packed)
        return Layer(self, packed, at, self.threads if threads is None else threads)

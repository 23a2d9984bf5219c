"""Kernels: compiled convolutions that run here, behind the same C functions that a bundle ships."""

from __future__ import annotations

import ctypes
import hashlib
import re
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.build import Built, build
from tvmconv.choose import choose
from tvmconv.errors import ArgumentError, TargetError, TvmconvError, UnsupportedSpec
from tvmconv.runtime import KernelSymbol, wrapper_source
from tvmconv.runtime.elf import text_bytes
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load
from tvmconv.template import Task, get_template
from tvmconv.toolchain import link_shared

Tensor = Any
Array = NDArray[np.float32]
BatchNorm = tuple[Tensor, Tensor, Tensor, Tensor, float]
MAX_ELEMS = 2**31 - 1


def compile(
    spec: ConvSpec,
    target: str | Target = "host",
    *,
    algorithm: str | None = None,
    config: Config | str | None = None,
    threads: int = 1,
) -> Kernel:
    """Compile a convolution for a target.

    Args:
        spec: what to compute.
        target: a target id, "host" for this machine, or a Target.
        algorithm: force an algorithm ("direct") or a template id ("x86.depthwise").
        config: force a template's config; needs ``algorithm`` to be a template id.
        threads: for how many threads to split the work; also the default of each call.

    Raises:
        UnsupportedSpec: no template takes the spec, or a tensor has 2**31 elements or more.
        InvalidConfig: the config does not apply.
        TargetError: no such target.
        BuildFailed: TVM, LLVM or the linker failed.
    """
    started = time.perf_counter()
    if not isinstance(spec, ConvSpec):
        raise ArgumentError("spec", type(spec).__name__, "a ConvSpec (ConvSpec.parse reads a text)")
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise ArgumentError("threads", threads, "an int from 1 to 1024")
    _check_supported(spec)
    task = Task(spec, load(target), threads)
    if config is not None:
        if algorithm is None:
            raise ArgumentError("algorithm", None, "a template id when config is given")
        template = get_template(algorithm)
        reason = template.supports(task)
        if reason is not None:
            raise UnsupportedSpec(f"{template.id} does not take {spec}: {reason}")
        chosen = Config.parse(config) if isinstance(config, str) else config
        tier = "forced"
    else:
        candidate = choose(task, algorithm)
        template, tier = candidate.template, "analytic"
        assert candidate.config is not None
        chosen = candidate.config
    symbol = symbol_of(task, template.id, chosen)
    built = build(task, template, chosen, symbol)
    seconds = time.perf_counter() - started
    return Kernel(
        spec=spec,
        target=task.target,
        template_id=template.id,
        algorithm=template.algorithm,
        config=chosen,
        tier=tier,
        threads=threads,
        symbol=symbol,
        built=built,
        compile_seconds=seconds,
    )


def _check_supported(spec: ConvSpec) -> None:
    if spec.dtype != "float32":
        raise UnsupportedSpec("dtype", spec.dtype, "float32")
    for name, shape in (("x", spec.x_shape), ("weight", spec.weight_shape), ("y", spec.out_shape)):
        if prod(shape) > MAX_ELEMS:
            raise UnsupportedSpec(f"{name} elements", prod(shape), f"at most {MAX_ELEMS}")


def symbol_of(task: Task, template_id: str, config: Config) -> str:
    """C name of a kernel: readable, and distinct for distinct specs, targets and configs."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", str(task.spec))[:96]
    key = f"{task.spec}|{task.target.id}|{template_id}|{config}"
    return f"{readable}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled convolution. Frozen, re-entrant, and safe to call from several threads.

    Attributes:
        spec: what it computes.
        target: what it was compiled for.
        template_id: the schedule it came from.
        algorithm: the algorithm of that template; it fixes the error bound.
        config: the schedule's config.
        tier: where the config came from: "analytic" or "forced".
        threads: default thread count of a call.
        symbol: name of the C functions, ``<symbol>_run`` and ``<symbol>_pack``.
        built: machine code and listings.
        compile_seconds: what compiling took.
    """

    spec: ConvSpec
    target: Target
    template_id: str
    algorithm: str
    config: Config
    tier: str
    threads: int
    symbol: str
    built: Built = field(repr=False)
    compile_seconds: float

    @property
    def object_bytes(self) -> bytes:
        """ELF object with the kernel's entry points."""
        return self.built.object_bytes

    @property
    def packed_elems(self) -> int:
        """Float32 values of the packed weights."""
        return self.built.packed_elems

    @property
    def text_bytes(self) -> int:
        """Bytes of machine code."""
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
        """A listing: "trace", "tir" or "asm"."""
        listings = {"trace": self.built.trace, "tir": self.built.loops, "asm": self.built.asm}
        if what not in listings:
            raise ArgumentError("what", what, ", ".join(listings))
        return listings[what]

    @cached_property
    def _library(self) -> Library:
        return open_library(self)

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

        Args:
            weight: shape ``spec.weight_shape``.
            bias: one value per output channel; exactly when the spec has a bias.
            scale: the same, for scale_shift.
            shift: the same, for scale_shift.
            batch_norm: (mean, variance, gamma, beta, eps), folded into weight and bias; needs a
                spec with a bias, and then ``bias`` may be left out (zeros).

        Returns:
            1-D float32, ``packed_elems`` long, 64-byte aligned.

        Raises:
            ArgumentError: a tensor that is missing, not asked for, or of the wrong shape or dtype.
        """
        spec = self.spec
        if batch_norm is not None:
            weight, bias = fold_batch_norm(spec, weight, bias, batch_norm)
        given = {"bias": bias, "scale": scale, "shift": shift}
        wanted = {"bias": spec.bias, "scale": spec.scale_shift, "shift": spec.scale_shift}
        kept, addresses = [], {}
        plain, addresses["weight"] = tensors.dense("weight", weight, spec.weight_shape)
        kept.append(plain)
        for name, value in given.items():
            if (value is not None) != wanted[name]:
                state = "a tensor" if value is not None else None
                allowed = f"a tensor of shape ({spec.oc},)" if wanted[name] else "nothing: not in the spec"
                raise ArgumentError(name, state, allowed)
            if value is not None:
                plain, addresses[name] = tensors.dense(name, value, (spec.oc,))
                kept.append(plain)
        packed, addresses["packed"] = tensors.empty_numpy((self.packed_elems,), self.packed_elems)
        self._library.call_pack(addresses)
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
        packed, at = tensors.dense("packed", packed, (self.packed_elems,))
        layer = Layer(self, packed, at, self.threads if threads is None else threads)
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
    ) -> Layer:
        """Pack once and return a callable layer; arguments as in ``pack``."""
        packed = self.pack(weight, bias, scale=scale, shift=shift, batch_norm=batch_norm)
        packed, at = tensors.dense("packed", packed, (self.packed_elems,))
        return Layer(self, packed, at, self.threads if threads is None else threads)


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


def fold_batch_norm(
    spec: ConvSpec, weight: Tensor, bias: Tensor | None, batch_norm: BatchNorm
) -> tuple[Array, Array]:
    """W' = W gamma / sqrt(v + eps) and b' = (b - m) gamma / sqrt(v + eps) + beta, in float64.

    Raises:
        ArgumentError: the spec has no bias to hold the shift, or a wrong shape.
    """
    if not spec.bias:
        raise ArgumentError("batch_norm", "a tuple", "only a spec with bias=True can hold its shift")
    mean, variance, gamma, beta, eps = batch_norm
    plain, _ = tensors.dense("weight", weight, spec.weight_shape)
    vectors = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "bias": bias}
    m, v, g, b, start = (
        np.zeros(spec.oc) if value is None else _as_numpy(*_dense_vector(name, value, spec.oc))
        for name, value in vectors.items()
    )
    factor = g / np.sqrt(v + eps)
    w = _as_numpy(plain, 0)
    scaled = _scale_outputs(spec, w, factor).astype(np.float32)
    return scaled, ((start - m) * factor + b).astype(np.float32)


def _dense_vector(name: str, value: Tensor, oc: int) -> tuple[Tensor, int]:
    return tensors.dense(name, value, (oc,))


def _as_numpy(value: Tensor, _address: int) -> NDArray[np.float64]:
    return np.asarray(value.numpy() if tensors.is_torch(value) else value, np.float64)


def _scale_outputs(
    spec: ConvSpec, weight: NDArray[np.float64], factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Multiply every weight by its output channel's factor, whichever axis holds it."""
    axis = 0 if spec.weight_layout == "OI" else 1
    if spec.op != "conv_transpose":
        shape = [1] * weight.ndim
        shape[axis] = spec.oc
        return weight * factor.reshape(shape)
    # Transposed: the axis holds the outputs of one group, the groups lie along the inputs.
    groups, ocg, icg = spec.groups, spec.oc // spec.groups, spec.ic // spec.groups
    per_input = np.repeat(factor.reshape(groups, ocg), icg, axis=0)
    matrix = per_input if axis == 1 else per_input.T
    return weight * matrix.reshape(*matrix.shape, *(1,) * spec.rank)


@dataclass(frozen=True, eq=False)
class Library:
    """The loaded shared library of one kernel."""

    symbol: str
    run: Any
    pack: Any
    error_text: Any

    def check(self, status: int) -> None:
        """Raise the error that a C function reported."""
        if status:
            text = self.error_text(status)
            raise TvmconvError(f"{self.symbol}: {text.decode() if text else f'error {status}'}")

    def call_pack(self, addresses: dict[str, int]) -> None:
        """Run the pack function on addresses by argument name."""
        order = ("weight", "bias", "scale", "shift", "packed")
        self.check(self.pack(*(addresses.get(name) for name in order)))


def open_library(kernel: Kernel) -> Library:
    """Link the kernel with the runtime and load it.

    Raises:
        TargetError: this machine cannot run code for the kernel's target.
    """
    if not kernel.target.runs_here:
        missing = ", ".join(kernel.target.missing_features) or "another architecture"
        raise TargetError(f"{kernel.target.id} does not run on this machine: missing {missing}")
    # The mapping outlives the file, so nothing stays behind on disk.
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path = Path(folder) / f"{kernel.symbol}.so"
        wrappers = wrapper_source([kernel.c_symbol])
        link_shared([kernel.object_bytes], [wrappers], path, kernel.target)
        library = ctypes.CDLL(str(path))
    run, pack = (getattr(library, f"{kernel.symbol}_{kind}") for kind in ("run", "pack"))
    run.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32]
    pack.argtypes = [ctypes.c_void_p] * 5
    run.restype = pack.restype = ctypes.c_int32
    library.tvmconv_error_text.restype = ctypes.c_char_p
    library.tvmconv_error_text.argtypes = [ctypes.c_int32]
    return Library(kernel.symbol, run, pack, library.tvmconv_error_text)

"""Golden inputs and answers of a kernel, made when it is exported."""

from __future__ import annotations

import importlib.util
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tvmconv.elements import numpy_dtype
from tvmconv.errors import UnsupportedSpec
from tvmconv.fills import integer_limit
from tvmconv.operands import Operands

from .contents import Convolution
from .golden import Array, Golden, fill

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.spec import ConvSpec

# With a checksum over every output a few samples only name the place; without one they are the
# test. 8 + 4 bytes each.
EXACT_SAMPLES: Final = 64
SAMPLES: Final = 1024

# (seed, count, low, step): values low + step * (0 .. count-1).
Fill = tuple[int, int, float, float]


def tensor_fills(spec: ConvSpec) -> dict[str, Fill]:
    """Fills of small numbers whose products and sums are exact in float32."""
    limit = integer_limit(spec)
    small = (2 * limit + 1, float(-limit), 1.0)
    fills = {"x": (101, *small), "weight": (102, *small)}
    if spec.bias:
        fills["bias"] = (103, *small)
    if spec.scale_shift:
        fills |= {"scale": (104, 9, -2.0, 0.5), "shift": (105, *small)}
    if spec.residual:
        fills["residual"] = (106, *small)
    if spec.op == "deform_conv":
        # Quarter pixels: bilinear weights are then multiples of 1/16.
        fills["offset"] = (107, 25, -3.0, 0.25)
    if spec.mask:
        fills["mask"] = (108, 3, 0.0, 0.5)
    return fills


def write_answers(
    folder: Path, convolution: Convolution, entry: dict[str, Any]
) -> dict[str, Golden]:
    """A golden file for each accuracy among the targets; the answers by target."""
    by_accuracy: dict[str, tuple[str, Golden]] = {}
    found = {}
    ways = {kernel.accuracy for kernel in convolution.kernels}
    # Without torch the answer is the kernel's own, which has to run here.
    for kernel in sorted(convolution.kernels, key=lambda k: not k.target.runs_here):
        if kernel.accuracy not in by_accuracy:
            suffix = f"-{kernel.accuracy}" if len(ways) > 1 else ""
            path = f"golden/{convolution.symbol}{suffix}.bin"
            golden = golden_answer(kernel)
            (folder / path).write_bytes(golden.encode())
            by_accuracy[kernel.accuracy] = path, golden
        path, golden = by_accuracy[kernel.accuracy]
        code = entry["targets"][kernel.target.id]
        code["golden"] = path
        code["tolerance"] |= {"exact": golden.exact, "absolute": golden.tolerance}
        found[kernel.target.id] = golden
    return found


def golden_answer(kernel: Kernel) -> Golden:
    """The right answer to the golden inputs, from torch where it is installed.

    Without torch it is the kernel's own answer, which then proves that the bundle does on the
    device what the kernel did here.

    Raises:
        UnsupportedSpec: no torch, and the kernel's target does not run on this machine.
    """
    spec = kernel.spec
    operands = _operands(spec)
    if importlib.util.find_spec("torch") is not None:
        return golden_for(spec, kernel.accuracy)
    if not kernel.target.runs_here:
        raise UnsupportedSpec(
            "target", kernel.target.id, "one that runs here, or install torch for the golden answer"
        )
    keywords: dict[str, Any] = operands.keywords()
    y = np.asarray(kernel(operands.x, operands.weight, **keywords))
    tolerance = (
        0.0 if _is_exact(spec, kernel.accuracy) else 1e-5 * float(np.abs(y).max(initial=0.0))
    )
    return Golden.of(y, tolerance, EXACT_SAMPLES if tolerance == 0.0 else SAMPLES)


def _operands(spec: ConvSpec) -> Operands:
    shapes = {
        "x": spec.x_shape,
        "weight": spec.weight_shape,
        "residual": spec.out_shape,
        "offset": spec.offset_shape,
        "mask": spec.mask_shape,
    }
    tensors: dict[str, Array] = {}
    for name, (seed, count, low, step) in tensor_fills(spec).items():
        shape = shapes.get(name, (spec.oc,))
        tensors[name] = fill(seed, count, low, step, prod(shape)).reshape(shape)
    return Operands(**tensors)


def _is_exact(spec: ConvSpec, accuracy: str) -> bool:
    """Whether the golden answer has no rounding that could differ from device to device."""
    from tvmconv.tolerance import EXACT_ACTIVATIONS, OWN_PRODUCTS

    value = spec.pad_value
    eighths = np.isfinite(value) and abs(value) <= 1024 and float(8 * value).is_integer()
    return bool(eighths and accuracy in OWN_PRODUCTS and spec.activation in EXACT_ACTIVATIONS)


def golden_for(spec: ConvSpec, accuracy: str) -> Golden:
    """The right answer to a spec's golden inputs by torch, for kernels of an accuracy."""
    from tvmconv.reference import accumulate, accumulate_squares, finish
    from tvmconv.tolerance import result_bound

    operands = _operands(spec)
    if _is_exact(spec, accuracy):
        # Sums are exact in the accumulator's type; results of 16 bits are rounded once.
        y = finish(spec, accumulate(spec, operands, spec.acc_dtype), operands)
        return Golden.of(y.astype(numpy_dtype(spec.dtype)), 0.0, EXACT_SAMPLES)
    sums = accumulate(spec, operands)
    squares = accumulate_squares(spec, operands)
    y = finish(spec, sums, operands)
    bound = result_bound(spec, sums, squares, operands, y, accuracy)
    return Golden.of(y.astype(np.float32), float(np.max(bound, initial=0.0)), SAMPLES)

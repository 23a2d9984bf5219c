"""The validator finds what is wrong; its kernels here are torch itself with one fault each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import tvmconv as tc
from tests.strategies import conv_specs
from tvmconv.errors import Mismatch, UnsupportedSpec
from tvmconv.operands import Operands
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec
from tvmconv.tolerance import ACCURACIES, Accuracy
from tvmconv.validate import Report, reproducer, validate

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

Array = NDArray[Any]
SPEC = tc.conv2d((2, 6, 8, 7), 5, 3, padding=1, bias=True, activation="relu")
Fault = Callable[[ConvSpec, Operands, Array], Array]


@dataclass(frozen=True)
class TorchKernel:
    """What validate needs of a kernel, computed by torch in float32 and then spoilt."""

    spec: ConvSpec
    fault: Fault = lambda spec, operands, y: y
    accuracy: str = "direct"
    template_id: str = "x86.direct"
    threads: int = 1
    config: str = "tile=1"
    target: Any = field(default_factory=lambda: SimpleNamespace(id="x86_64_v2"))

    def __call__(self, x: Array, weight: Array, **tensors: Array) -> Array:
        operands = Operands(x, weight, **tensors)
        return self.fault(self.spec, operands, reference(self.spec, operands, "float32"))


def check(kernel: TorchKernel) -> Report:
    return validate(cast("Kernel", kernel))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(conv_specs())
def test_torch_passes(spec: ConvSpec) -> None:
    check(TorchKernel(spec)).require()


def one_element(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    y[1, 3, 2, 4] += 1
    return y


def lost_tap(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    weight = operands.weight.copy()
    weight[:, :, 2, 2] = 0
    return reference(spec, replace(operands, weight=weight), "float32")


def swapped_channels(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    return reference(spec, replace(operands, x=operands.x[:, [1, 0, 2, 3, 4, 5]]), "float32")


def wrong_padding(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    other = replace(spec, padding_mode="replicate")
    return reference(other, operands, "float32")


def half_precision(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    with np.errstate(over="ignore"):
        return y.astype(np.float16).astype(np.float32)


def nan_to_zero(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    return np.nan_to_num(y, nan=0.0, posinf=np.inf, neginf=-np.inf)


def masked_by_zero(spec: ConvSpec, operands: Operands, y: Array) -> Array:
    """Multiplies a neighbour by zero: right for numbers, NaN next to an infinity."""
    with np.errstate(invalid="ignore"):
        y[:, 0] += 0 * np.roll(operands.x[:, 0], 3, axis=-1)
    return y


FAULTS: dict[str, tuple[Fault, set[str]]] = {
    "one_element": (one_element, {"integers", "impulses", "borders", "normal", "torch"}),
    "lost_tap": (lost_tap, {"integers", "impulses", "borders", "normal", "torch"}),
    "swapped_channels": (swapped_channels, {"integers", "normal", "torch"}),
    "wrong_padding": (wrong_padding, {"integers", "borders", "normal", "torch"}),
    "half_precision": (half_precision, {"normal", "torch"}),
    "nan_to_zero": (nan_to_zero, {"nonfinite"}),
    "masked_by_zero": (masked_by_zero, {"nonfinite"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name: str) -> None:
    fault, least = FAULTS[name]
    report = check(TorchKernel(SPEC, fault))
    assert not report.ok
    assert least <= {c.name for c in report.checks if not c.ok}
    with pytest.raises(Mismatch, match="tvmconv validate"):
        report.require()


def test_the_worst_element_is_named() -> None:
    report = check(TorchKernel(SPEC, one_element))
    integers = next(c for c in report.checks if c.name == "integers")
    assert integers.index == (1, 3, 2, 4)
    assert integers.max_abs == 1
    assert integers.bound == 0
    assert "worst at [1, 3, 2, 4]" in str(report)


def test_unstable_answers_are_found() -> None:
    calls = iter(range(100))

    def unstable(spec: ConvSpec, operands: Operands, y: Array) -> Array:
        return y * np.float32(1 + 1e-7 * (next(calls) % 2))

    report = check(TorchKernel(replace(SPEC, activation="tanh"), unstable))
    assert {c.name for c in report.checks if not c.ok} == {"repeat"}


def test_wrong_shape_is_found() -> None:
    report = check(TorchKernel(SPEC, lambda spec, operands, y: y[:, :, 1:]))
    assert not any(c.ok for c in report.checks if c.name != "repeat")
    assert "shape" in str(report)


def test_reproducer_names_what_was_compiled() -> None:
    report = validate(cast("Kernel", TorchKernel(SPEC, threads=2)), seed=7)
    assert report.ok
    assert report.reproducer == (
        f"tvmconv validate {SPEC} --target x86_64_v2 --algorithm x86.direct --config tile=1"
        " --threads 2 --seed 7"
    )
    assert str(report).endswith(report.reproducer)


def test_reproducer_allows_the_error_that_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACCURACIES, "coarse", Accuracy(8.0, 2.5e-4))
    kernel = TorchKernel(SPEC, accuracy="coarse")
    assert " --max-error 0.00025 " in reproducer(cast("Kernel", kernel), 0)


def test_algorithms_without_a_bound_are_not_judged() -> None:
    with pytest.raises(UnsupportedSpec, match="winograd"):
        check(TorchKernel(SPEC, accuracy="winograd"))

"""Prove a compiled kernel against torch: `validate(kernel) -> Report`.

| check     | inputs                              | passes when                             |
| --------- | ----------------------------------- | --------------------------------------- |
| integers  | small integers (tvmconv/fills.py)   | bit-equal to torch's float32 sums       |
| impulses  | single ones, distinct weights       | bit-equal                               |
| borders   | integers in the outermost ring only | bit-equal                               |
| normal    | standard normal                     | within the bound around float64 torch   |
| torch     | the same                            | within twice the bound of float32 torch |
| repeat    | the same                            | bit-equal to the first run              |
| nonfinite | integers with NaN and infinities    | NaN and infinities in the same places   |

Kernels of 16-bit floats are compared with torch's float32 sums of the same values, rounded once.
Where sums are not exact (a padding value of 0.1) or the activation is an approximation (tanh), the
bit-equal checks compare within the bound of just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import fills
from tvmconv.elements import numpy_dtype
from tvmconv.errors import Mismatch
from tvmconv.operands import Operands
from tvmconv.reference import (
    accumulate,
    accumulate_squares,
    before_activation,
    finish,
    from_canonical,
)
from tvmconv.tolerance import (
    DEFAULT_MAX_ERROR,
    EXACT_ACTIVATIONS,
    OWN_PRODUCTS,
    activation_bound,
    get_accuracy,
    result_bound,
    stored_bound,
)

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: which of the module's checks it is.
        ok: whether every element is within its bound.
        max_abs: largest absolute difference of finite elements.
        bound: bound of the worst element, in the result's units; 0 means bit-equal.
        index: the worst element in the output's memory order, None for an empty output.
        text: one line for people.
    """

    name: str
    ok: bool
    max_abs: float
    bound: float
    index: tuple[int, ...] | None
    text: str


@dataclass(frozen=True)
class Report:
    """All checks of one kernel, and the command line that repeats them."""

    checks: tuple[Check, ...]
    reproducer: str

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def require(self) -> None:
        """Raise Mismatch with the whole report unless every check passed."""
        if not self.ok:
            raise Mismatch(str(self))

    def __str__(self) -> str:
        lines = [f"{'ok  ' if check.ok else 'FAIL'} {check.text}" for check in self.checks]
        return "\n".join([*lines, f"reproduce: {self.reproducer}"])


def validate(kernel: Kernel, *, seed: int = 0, emulate: bool = False) -> Report:
    """Run every check of this module; the same seed gives the same inputs.

    Args:
        kernel: what to prove.
        seed: of the inputs.
        emulate: run the kernel in a program of its own, under its target's emulator. For targets
            that this machine is not; where there is no emulator, natively if the machine fits.
            CUDA kernels run thread by thread on this CPU (docs/cuda.md).

    Raises:
        TargetError: the kernel does not run in this process.
        EnvironmentProblem: with `emulate`, no emulator or no compiler for the target.
        ProgramFailed: with `emulate`, the program ended badly.
    """
    if emulate:
        from tvmconv.emulate.proof import validate_kernels

        return validate_kernels([kernel], seed=seed)[0]
    cases = proof_cases(kernel.spec, kernel.accuracy, seed)
    answers = {name: call(kernel, operands) for name, operands in cases.items()}
    return Report(judge(kernel.spec, kernel.accuracy, cases, answers), reproducer(kernel, seed))


def proof_cases(spec: ConvSpec, accuracy: str, seed: int) -> dict[str, Operands]:
    """The calls that a proof consists of, by name of the check."""
    normal = fills.normal(spec, seed)
    cases = {
        "integers": fills.integers(spec, seed),
        "impulses": fills.impulses(spec, seed),
        "borders": fills.borders(spec, seed),
        "normal": normal,
        "repeat": normal,
    }
    if accuracy in OWN_PRODUCTS:
        cases["nonfinite"] = fills.nonfinite(spec, seed)
    return cases


def judge(
    spec: ConvSpec, accuracy: str, cases: Mapping[str, Operands], answers: Mapping[str, Array]
) -> tuple[Check, ...]:
    """Compare the answers to the calls of `proof_cases` with torch's."""
    checks = []
    for name, operands in cases.items():
        got = answers[name]
        if name == "normal":
            checks += _check_normal(spec, operands, got, accuracy)
        elif name == "repeat":
            checks.append(compare(name, got, answers["normal"], np.zeros(())))
        elif name == "nonfinite":
            checks.append(_check_nonfinite(spec, operands, got))
        else:
            checks.append(_check_exact(spec, name, operands, got, accuracy))
    return tuple(checks)


def reproducer(kernel: Kernel, seed: int, *, emulate: bool = False) -> str:
    """Write the command line that validates this very kernel with this seed."""
    parts = [kernel.spec.reproducer, f"--target {kernel.target.id}"]
    # The config too: what would be chosen changes with records and with the shipped model.
    parts.append(f"--algorithm {kernel.template_id} --config {kernel.config}")
    error = get_accuracy(kernel.accuracy).relative_error
    if error > DEFAULT_MAX_ERROR:
        parts.append(f"--max-error {error:g}")
    if kernel.threads != 1:
        parts.append(f"--threads {kernel.threads}")
    return " ".join([*parts, f"--seed {seed}", *(["--emulate"] if emulate else [])])


def call(kernel: Kernel, operands: Operands) -> Array:
    """Run a kernel on a set of operands."""
    y: Array = kernel(operands.x, operands.weight, **operands.keywords())
    return y


def sums_are_exact(spec: ConvSpec) -> bool:
    """Tell whether the integer fills keep every float32 sum exact: eighths do, 0.1 does not."""
    value = spec.pad_value
    return not isfinite(value) or (abs(value) <= 1024 and (8 * value).is_integer())


def _check_exact(spec: ConvSpec, name: str, operands: Operands, got: Array, accuracy: str) -> Check:
    if accuracy not in OWN_PRODUCTS or not sums_are_exact(spec):
        sums = accumulate(spec, operands)
        bound = _bound(spec, sums, operands, accuracy)
        return compare(name, got, finish(spec, sums, operands), bound)
    sums = accumulate(spec, operands, spec.acc_dtype)
    expected = finish(spec, sums, operands)
    if spec.activation in EXACT_ACTIVATIONS:
        return compare(name, got, expected.astype(numpy_dtype(spec.dtype)), np.zeros(()))
    bound = stored_bound(spec, expected, _activation_error(spec, sums, operands))
    return compare(name, got, expected, bound)


def _check_normal(spec: ConvSpec, operands: Operands, got: Array, accuracy: str) -> list[Check]:
    sums = accumulate(spec, operands)
    bound = _bound(spec, sums, operands, accuracy)
    own = finish(spec, accumulate(spec, operands, spec.acc_dtype), operands)
    return [
        compare("normal", got, finish(spec, sums, operands), bound),
        compare("torch", got, own, 2 * bound),
    ]


def _check_nonfinite(spec: ConvSpec, operands: Operands, got: Array) -> Check:
    """Compare with torch in float64, or float32 where torch's own answers differ (gelu(inf))."""
    sums = accumulate(spec, operands)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = finish(spec, sums, operands)
        if got.shape != expected.shape:
            return compare("nonfinite", got, expected, np.zeros(()))
        single = finish(spec, sums.astype(spec.acc_dtype), operands)
        either = np.where(_same_class(got, single), single, expected)
        bound = _activation_error(spec, sums, operands)
        if not sums_are_exact(spec):
            finite = np.nan_to_num(sums, nan=0.0, posinf=0.0, neginf=0.0)
            loose = np.abs(finite) + abs(spec.pad_value) * fills.sum_length(spec) * 4
            bound = bound + from_canonical(1e-5 * (loose + 1), spec.out_layout)
        finite = np.nan_to_num(either, nan=0.0, posinf=0.0, neginf=0.0)
        bound = stored_bound(spec, finite, bound)
    return compare("nonfinite", got, either, bound)


def _bound(spec: ConvSpec, sums: Array, operands: Operands, accuracy: str) -> Array:
    squares = accumulate_squares(spec, operands)
    exact = finish(spec, sums, operands)
    return result_bound(spec, sums, squares, operands, exact, accuracy)


def _activation_error(spec: ConvSpec, sums: Array, operands: Operands) -> Array:
    value = before_activation(spec, sums, operands)
    bound = activation_bound(spec, value, np.zeros_like(value))
    # Exact ones round nothing; leaky_relu's one product is torch's own in the same dtype.
    own = np.zeros_like(bound) if spec.activation in EXACT_ACTIVATIONS else bound
    return from_canonical(own, spec.out_layout)


def compare(name: str, got: Array, expected: Array, bound: Array) -> Check:
    """Compare element by element; NaN equals NaN, an infinity only itself."""
    if got.shape != expected.shape:
        text = f"{name}: shape {got.shape}, expected {expected.shape}"
        return Check(name, False, float("nan"), 0.0, None, text)
    if got.size == 0:
        return Check(name, True, 0.0, 0.0, None, f"{name}: empty output")
    limit = np.broadcast_to(bound, got.shape)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        finite = np.isfinite(got) & np.isfinite(expected)
        error = np.where(finite, error, np.where(_same_class(got, expected), 0.0, np.inf))
        excess = np.where(error == 0, 0.0, error / limit)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), got.shape))
    ok = bool(excess[index] <= 1.0)
    at, allowed = ", ".join(map(str, index)), float(limit[index])
    max_abs = float(error[finite].max(initial=0.0))
    state = "all equal" if not excess[index] else f"worst at [{at}]: got {got[index]:.9g}, "
    if excess[index]:
        state += f"expected {expected[index]:.9g}, difference {error[index]:.3g}, "
        state += f"allowed {allowed:.3g}"
        wrong = int(np.count_nonzero(excess > 1.0))
        state += f" ({wrong} of {got.size} elements wrong)" if wrong else ""
    return Check(name, ok, max_abs, allowed, index, f"{name}: {state}")


def _same_class(got: Array, expected: Array) -> Array:
    """Tell where both are finite, both NaN, or the same infinity."""
    both_nan = np.isnan(got) & np.isnan(expected)
    both_finite = np.isfinite(got) & np.isfinite(expected)
    same: Array = both_nan | both_finite | (got == expected)
    return same

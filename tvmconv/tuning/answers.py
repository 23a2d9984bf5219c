"""What a spec's kernels must answer: computed once per spec, kept as files beside the libraries.

Builders write these (they may load torch), the measuring process only reads them.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.elements import numpy_dtype
from tvmconv.operands import Operands

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]
SEED = 0


def write_answer(spec: ConvSpec, accuracy: str, folder: Path) -> None:
    """Write operands, the exact result and the bound of an accuracy into ``folder``.

    What is there already is read again instead of computed.
    """
    import torch

    from tvmconv import fills, reference
    from tvmconv.tolerance import result_bound

    # A forked process has none of the threads that its parent's torch may have started.
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    operands = fills.normal(spec, SEED)
    for item in fields(operands):
        value = getattr(operands, item.name)
        if value is not None and not (folder / f"{item.name}.npy").exists():
            _write(folder / f"{item.name}.npy", value)
    sums = _kept(folder / "sums.npy", lambda: reference.accumulate(spec, operands))
    squares = _kept(folder / "squares.npy", lambda: reference.accumulate_squares(spec, operands))
    exact = _kept(folder / "expected.npy", lambda: reference.finish(spec, sums, operands))
    bound = result_bound(spec, sums, squares, operands, exact, accuracy)
    _write(folder / f"bound-{accuracy}.npy", bound.astype(np.float32))


def _write(path: Path, value: Array) -> None:
    """Whole or not at all: the measuring process may be reading a spec's other files."""
    part = path.with_suffix(f".{os.getpid()}.npy")
    np.save(part, value)
    part.replace(path)


def _kept(path: Path, compute: Any) -> Array:
    if path.exists():
        kept: Array = np.load(path)
        return kept
    computed: Array = compute()
    _write(path, computed)
    return computed


def read_operands(folder: Path) -> dict[str, Array]:
    """The tensors of a call by name."""
    paths = {item.name: folder / f"{item.name}.npy" for item in fields(Operands)}
    found = {name: np.load(path) for name, path in paths.items() if path.exists()}
    # numpy writes a type that is not its own, bfloat16, as bytes of no type.
    return {n: a.view(numpy_dtype("bfloat16")) if a.dtype == "V2" else a for n, a in found.items()}


def compare(y: Array, expected: Array, bound: Array) -> tuple[str | None, float]:
    """Why an answer is wrong, or None; and the largest error over the largest result."""
    if not y.size:
        return None, 0.0
    error = np.abs(y - expected)
    with np.errstate(invalid="ignore"):
        wrong = ~(error <= bound)
    relative = float(error.max()) / max(float(np.abs(expected).max()), 1e-30)
    if not wrong.any():
        return None, relative
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(wrong, np.nan_to_num(error / bound, nan=np.inf, posinf=np.inf), 0.0)
    at = np.unravel_index(int(np.argmax(excess)), y.shape)
    place = ", ".join(str(int(i)) for i in at)
    return (
        f"y[{place}] is {y[at]:.9g}, expected {expected[at]:.9g} within {bound[at]:.3g}; "
        f"{int(wrong.sum())} of {y.size} elements wrong"
    ), relative

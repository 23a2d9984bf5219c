"""Candidates of one convolution on a GPU: packed, run, their answers checked, then timed.

Needs numpy and the driver alone, so that it works where neither TVM nor torch is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.driver import Buffer, Device
from tvmconv.cuda.program import Program
from tvmconv.cuda.timing import Launch, Stopwatch
from tvmconv.elements import numpy_dtype
from tvmconv.errors import DeviceCrashed, DeviceError
from tvmconv.tuning.measure import WALL_SAMPLES, Outcome, hopeless

Array = NDArray[Any]
# Why an answer is wrong, or None; and its relative error, NaN where that is not known.
Check = Callable[[Array], tuple[str | None, float]]
# Bytes around what a candidate writes, looked at afterwards; a byte of them, and of results before.
GUARD: Final = 256
UNTOUCHED: Final = 0xFF


@dataclass(frozen=True)
class TrialCode:
    """A candidate's machine code.

    Attributes:
        run: launches of run.
        run_image: cubin of run.
        pack: launches of pack.
        pack_image: cubin of pack.
        packed_elems: values of the packed buffer.
        name: for errors.
    """

    run: DeviceCode
    run_image: bytes
    pack: DeviceCode
    pack_image: bytes
    packed_elems: int
    name: str


def read_code(path: Path, name: str) -> TrialCode:
    """The code of a candidate that gpu_candidate.py wrote."""
    entry = json.loads(path.read_text(encoding="utf-8"))
    return code_of(entry, lambda file: (path.parent / file).read_bytes(), name)


def code_of(entry: Mapping[str, Any], content: Callable[[str], bytes], name: str) -> TrialCode:
    """The code that an entry of a candidate tells of.

    Args:
        entry: with packed_elems, and what run and pack consist of (docs/bundle-format.md).
        content: gives a file by its name in the entry.
        name: for errors.
    """
    run, pack = entry["run"], entry["pack"]
    return TrialCode(
        run=DeviceCode.from_entry(run),
        run_image=content(run["cubin"]) if run["cubin"] else b"",
        pack=DeviceCode.from_entry(pack),
        pack_image=content(pack["cubin"]) if pack["cubin"] else b"",
        packed_elems=entry["packed_elems"],
        name=name,
    )


class GpuTrials:
    """One convolution's tensors on a GPU, for any number of candidates."""

    def __init__(
        self, device: Device, tensors: Mapping[str, Array], y_shape: Sequence[int], dtype: str
    ) -> None:
        """Bring the tensors there.

        Args:
            device: to measure on.
            tensors: x, weight and whatever else pack and run take, by name; of `dtype`.
            y_shape: of the result.
            dtype: of all tensors.

        Raises:
            DeviceError: not enough memory.
        """
        self._device, self._dtype, self._y_shape = device, numpy_dtype(dtype), tuple(y_shape)
        arrays = {n: np.ascontiguousarray(a, self._dtype) for n, a in tensors.items()}
        self._given = {n: device.upload(a.ctypes.data, a.nbytes) for n, a in arrays.items()}
        self._y = self._room(prod(self._y_shape))

    def measure(
        self, code: TrialCode, check: Check, stopwatch: Stopwatch, best: float = float("inf")
    ) -> Outcome:
        """Check a candidate's answer and time it; a crash of the GPU is an outcome as well.

        Args:
            code: of the candidate.
            check: of the answer.
            stopwatch: of the same GPU.
            best: least seconds so far; one that is hopelessly slower is not timed to the end.
        """
        try:
            loaded = self.load(code)
            reason, error = loaded.verdict(check)
            if reason is not None:
                return Outcome("wrong_answer", reason, error=error)
            samples: list[float] = []
            with stopwatch.prepare(loaded.launch) as recorded:
                while len(samples) < WALL_SAMPLES and not hopeless(samples, best):
                    samples.append(recorded.sample())
        except DeviceCrashed as crash:
            return Outcome("crashed", str(crash))
        except DeviceError as failure:
            return Outcome("build_failed", str(failure))
        return Outcome("ok", "", tuple(samples), error=error, wall=tuple(samples))

    def load(self, code: TrialCode) -> LoadedTrial:
        """Load a candidate and pack its weights.

        Raises:
            DeviceError: it does not fit the GPU, or failed.
        """
        device = self._device
        run = Program(device, code.run, code.run_image, f"{code.name}, run")
        packed = self._room(code.packed_elems)
        addresses = {name: buffer.address for name, buffer in self._given.items()}
        addresses |= {"packed": packed.address + GUARD, "y": self._y.address + GUARD}
        if code.pack.launches:
            packing = Program(device, code.pack, code.pack_image, f"{code.name}, pack")
            workspace = device.allocate(packing.workspace_bytes)
            packing.launch(addresses, workspace.address, 0)
            device.synchronize()
        return LoadedTrial(self, run, addresses, packed)

    def _room(self, elems: int) -> Buffer:
        """A buffer between guards."""
        buffer = self._device.allocate(elems * self._dtype.itemsize + 2 * GUARD)
        self._device.fill(buffer, UNTOUCHED)
        return buffer

    def taken(self, buffer: Buffer) -> tuple[Array, bool]:
        """Values of a buffer, and whether its guards are intact."""
        raw = np.empty(buffer.size, np.uint8)
        self._device.download(buffer, raw.ctypes.data)
        ends = bool((raw[:GUARD] == UNTOUCHED).all() and (raw[-GUARD:] == UNTOUCHED).all())
        return raw[GUARD:-GUARD].view(self._dtype), ends

    def answer(self, launch: Launch) -> tuple[Array, bool]:
        """The result of one call, float32, and whether nothing beside it was written."""
        self._device.fill(self._y, UNTOUCHED)
        launch(0)
        self._device.synchronize()
        y, intact = self.taken(self._y)
        return y.reshape(self._y_shape).astype(np.float32), intact


class LoadedTrial:
    """A candidate on the GPU with its packed weights."""

    def __init__(
        self, trials: GpuTrials, run: Program, addresses: Mapping[str, int], packed: Buffer
    ) -> None:
        """Take what `GpuTrials.load` made."""
        self._trials, self._run, self._addresses, self._packed = trials, run, addresses, packed
        self._workspace = run.device.allocate(run.workspace_bytes)

    def launch(self, stream: int) -> None:
        """Start one call on a stream."""
        self._run.launch(self._addresses, self._workspace.address, stream)

    def verdict(self, check: Check) -> tuple[str | None, float]:
        """What is wrong with the answer, or None; and its error."""
        y, intact = self._trials.answer(self.launch)
        reason, error = check(y)
        if reason is None and not (intact and self._trials.taken(self._packed)[1]):
            reason = "it wrote outside its result or its packed weights"
        return reason, error

"""Work for a GPU that was prepared elsewhere: a folder with a bundle, candidates and right answers.

    bundle/            kernels of every convolution, as exported
    candidates.jsonl   a line per candidate: what it is, its launches, the name of its machine code
    code/              machine code of candidates, named by its SHA-256; what is equal is there once
    golden/            right answers, per convolution and accuracy
    plan.json          versions of what made it

`gpu_prepare.py` writes it; reading needs numpy alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv.bundle import cuda_loader
from tvmconv.bundle.cuda_loader import CudaBundle
from tvmconv.bundle.golden import Golden
from tvmconv.errors import BundleError
from tvmconv.tuning.gpu_trials import TrialCode, code_of

FORMAT: Final = "tvmconv-gpu-plan"
VERSION: Final = 1
CANDIDATES: Final = "candidates.jsonl"

Array = NDArray[Any]


@dataclass(frozen=True)
class Prepared:
    """A candidate that was compiled beforehand.

    Attributes:
        spec: text of the convolution.
        target: id of the target.
        template: id of the template.
        config: text of the config.
        golden: file of its right answer.
        entry: packed_elems, run and pack, as gpu_trials.code_of reads them.
        duplicate_of: the config of an earlier candidate with the same machine code, or empty.
    """

    spec: str
    target: str
    template: str
    config: str
    golden: str
    entry: Mapping[str, Any]
    duplicate_of: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is, for finding it again."""
        return self.spec, self.target, self.template, self.config


class Plan:
    """A prepared folder.

    Attributes:
        folder: where it lies.
        made_with: versions that the code came from.
        bundle: kernels of every convolution.
        candidates: in the order in which they should be measured.
    """

    def __init__(self, folder: Path) -> None:
        """Read a folder.

        Raises:
            BundleError: it is none, or damaged; names the file.
        """
        self.folder = folder
        path = folder / "plan.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: no prepared folder is here: {error}") from error
        if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            given = f"{content.get('format')} {content.get('version')}"
            raise BundleError(f"{path}: format", given, f"{FORMAT} {VERSION}")
        self.made_with: dict[str, str] = content["made_with"]
        self.bundle: CudaBundle = cuda_loader.read(folder / "bundle")
        self.candidates = tuple(read_candidates(folder / CANDIDATES))

    def code(self, candidate: Prepared) -> TrialCode:
        """The machine code of a candidate."""
        name = f"{candidate.template} {candidate.config}"
        return code_of(candidate.entry, self._content, name)

    def golden(self, candidate: Prepared) -> Golden:
        """The right answer of a candidate."""
        return Golden.decode(self._content(candidate.golden))

    def _content(self, name: str) -> bytes:
        path = self.folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def read_candidates(path: Path) -> Iterator[Prepared]:
    """The candidates of a file; the last line may be cut off, as a killed writer leaves it."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield Prepared(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise BundleError(f"{path}:{number}: altered: {error}") from error


class AnswerCheck:
    """Compares answers with a golden one; exact ones with each other once one was found right."""

    def __init__(self, golden: Golden) -> None:
        """Take the right answer."""
        self._golden = golden
        self._right: Array | None = None

    def __call__(self, y: Array) -> tuple[str | None, float]:
        """What is wrong, or None, and an error that golden answers do not tell."""
        if self._right is not None and np.array_equal(y, self._right):
            return None, float("nan")
        problem = self._golden.problem(y)
        if problem is None and self._golden.exact:
            self._right = y
        return problem, float("nan")

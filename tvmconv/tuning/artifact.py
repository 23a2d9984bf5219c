"""A candidate that was built, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Every candidate's functions have the same names; a library sees only its own, and equal machine
# code is equal to the last byte.
SYMBOL = "candidate"


@dataclass(frozen=True)
class Artifact:
    """A candidate as a file.

    Attributes:
        path: shared library with ``__tvm_ffi_candidate_run`` and ``_pack``, or the object of run;
            of a GPU's, the JSON that gpu_candidate.py wrote.
        run_args: tensors of run, in order.
        pack_args: tensors of pack, in order.
        packed_elems: values of the packed buffer.
        accuracy: entry of tolerance.ACCURACIES that bounds its answers.
        seconds: what each step of the build took.
        pack_path: the object of pack; empty when there is nothing to pack, or path holds it.
    """

    path: str
    run_args: tuple[str, ...]
    pack_args: tuple[str, ...]
    packed_elems: int
    accuracy: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    pack_path: str = ""

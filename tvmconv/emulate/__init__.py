"""Programs of other machines, run here: by QEMU, or natively where the machine fits.

`find_runner(target)` says how, `build_program` makes one program of any number of kernels, and
`run_calls` feeds it with tensors and brings the answers back. `tvmconv.validate` proves kernels
with it as if they ran in this process.
"""

from __future__ import annotations

from .calls import Call, run_calls
from .program import Part, build_program
from .runner import Runner, find_runner

__all__ = ["Call", "Part", "Runner", "build_program", "find_runner", "run_calls"]

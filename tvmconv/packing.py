"""Packing weights here for a kernel that runs elsewhere.

The order of packed weights follows from the schedule, not from the processor: the pack function of
another machine's kernel, compiled for this one, gives that machine's order. So weights can be
shipped packed, which firmware needs and a board saves time by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tvmconv.build import lower
from tvmconv.library import Library, open_library
from tvmconv.target import host
from tvmconv.template import get_template

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel


def packing_library(kernel: Kernel) -> Library:
    """A library for this machine whose pack function is that of `kernel`; its run does nothing.

    Raises:
        TargetError: there is no target for this machine.
        BuildFailed: TVM, LLVM or the linker refused.
    """
    from tvmconv.lower.pipeline import lower_to_object

    here = host()
    # Vectors as the other machine has them: only the instructions are this one's.
    lowered = lower(kernel.task, get_template(kernel.template_id), kernel.config, kernel.symbol)
    functions = {f"{kernel.symbol}_pack": lowered.pack_loops}
    compiled = lower_to_object(functions, here, listing=False)
    symbol = replace(kernel.c_symbol, cpu_features=here.cpu_features, empty=True)
    return open_library(compiled.object_bytes, symbol, here)

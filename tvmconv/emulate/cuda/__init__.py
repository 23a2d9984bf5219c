"""CUDA kernels on a CPU: device code compiled with a C++ compiler and run thread by thread.

Every CUDA thread is a fiber; barriers, shuffles, tensor cores and asynchronous copies are modelled,
and what a GPU would refuse or leave to chance raises DeviceFault (docs/cuda.md has the list).
"""

from __future__ import annotations

from .calls import ORDERS, Call, Order, emulate, run_calls
from .program import Program, build_program

__all__ = ["ORDERS", "Call", "Order", "Program", "build_program", "emulate", "run_calls"]

"""Run kernels on tensors that end, or begin, at a page that may not be touched.

One byte read or written outside of a tensor ends the process with SIGSEGV, so this runs as a
process of its own: ``python -m tests.numeric.guarded SPEC...`` prints each spec before it runs.
``ALGORITHM:SPEC`` forces an algorithm.
"""

import ctypes
import mmap
import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tvmconv as tc
from tests.numeric.proving import level_of
from tvmconv import fills
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec
from tvmconv.tolerance import DIRECT

Array = NDArray[Any]
PAGE = mmap.PAGESIZE
NO_ACCESS = 0
LIBC = ctypes.CDLL(None, use_errno=True)


def guarded(values: Array, at_end: bool) -> Array:
    """A copy whose last (or first) byte is next to a page without access."""
    pages = -(-max(1, values.nbytes) // PAGE)
    room = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for page in (start, start + (pages + 1) * PAGE):
        if LIBC.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = PAGE + (pages * PAGE - values.nbytes if at_end else 0)
    copy = np.frombuffer(room, np.float32, prod(values.shape), offset).reshape(values.shape)
    copy[...] = values
    return copy


def prove_guarded(spec: ConvSpec, at_end: bool, algorithm: str | None = None) -> None:
    """Pack and run between guard pages, in place, and compare."""
    operands = fills.integers(spec)
    kernel = tc.compile(spec, level_of(spec), algorithm=algorithm)
    extra: dict[str, Any] = {
        name: guarded(value, at_end) for name, value in operands.keywords().items()
    }
    weights: dict[str, Any] = {}
    for name in {"bias", "scale", "shift"} & extra.keys():
        weights[name] = extra.pop(name)
    packed = guarded(kernel.pack(guarded(operands.weight, at_end), **weights), at_end)
    x, out = guarded(operands.x, at_end), guarded(np.zeros(spec.out_shape, np.float32), at_end)
    kernel.run(x, packed, **extra, out=out)
    expected = reference(spec, operands, "float32")
    if kernel.accuracy == DIRECT:
        np.testing.assert_array_equal(out, expected)
    else:
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def main(texts: list[str]) -> None:
    for text in texts:
        for at_end in (True, False):
            print(text, "end" if at_end else "begin", flush=True)
            algorithm, _, spec = text.rpartition(":")
            prove_guarded(ConvSpec.parse(spec), at_end, algorithm or None)
    print("all within their tensors")


if __name__ == "__main__":
    main(sys.argv[1:])

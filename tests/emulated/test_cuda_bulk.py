"""Bulk copies and mbarriers of the CUDA emulator: what works, and what is wrong about the rest."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulated.cuda_sources import Bench, kernel, together
from tvmconv.cuda.code import DeviceCode
from tvmconv.emulate.cuda import ORDERS, Order, emulate
from tvmconv.errors import DeviceFault, EmulationGap

pytestmark = pytest.mark.emulated

ROUNDS, FLOATS = 3, 64
X: NDArray[Any] = np.arange(ROUNDS * FLOATS, dtype=np.float32)
FENCE = 'asm volatile("fence.proxy.async.shared::cta;" ::: "memory");'
INIT = 'asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(full), "r"(1) : "memory");'
EXPECT = (
    'asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" '
    ':: "r"(full), "r"(256) : "memory");'
)
COPY = (
    'asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes '
    '[%0], [%1], %2, [%3];" :: "r"(to), "l"(x + 64 * round), "r"(256), "r"(full) : "memory");'
)
WAIT = (
    'for (unsigned done = 0; !done;) asm volatile("{ .reg .pred ended; '
    'mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; selp.u32 %0, 1, 0, ended; }" '
    ': "=r"(done) : "r"(full), "r"(round & 1) : "memory");'
)


def rounds(
    *,
    init: str = f"{INIT} {FENCE}",
    agree: str = "__syncthreads();",
    start: str = f"{EXPECT} {COPY}",
    wait: str = WAIT,
    between: str = "__syncthreads();",
    late: str = "",
) -> DeviceCode:
    """y = x by three bulk copies of 64 floats through one buffer, by 64 threads."""
    return kernel(
        f"""
__shared__ __align__(128) float s[80];
__shared__ unsigned long long barrier[1];
unsigned full = (unsigned)__cvta_generic_to_shared(barrier);
unsigned to = (unsigned)__cvta_generic_to_shared(s);
if (threadIdx.x == 0) {{ {init} }}
{agree}
for (int round = 0; round < 3; ++round) {{
  if (threadIdx.x == 0) {{ {start} }}
  {wait}
  y[64 * round + threadIdx.x] = s[threadIdx.x];
  {between}
}}
{late}""",
        block=(64, 1, 1),
    )


# A kernel, the fault's kind, and what its text says.
FAULTS = {
    "nobody waits": (
        rounds(wait="__syncthreads();"), "async", "asynchronous copy that was not waited for",
    ),
    "one thread waits": (
        rounds(wait=f"if (threadIdx.x == 0) {WAIT}"), "race|async",
        "a bulk copy wrote|not waited|of s, which thread",
    ),
    "a single try": (
        rounds(wait=WAIT.replace("for (unsigned done = 0; !done;)", "unsigned done;")),
        "race|async", "a bulk copy wrote|not waited",
    ),
    "the other parity": (
        rounds(wait=WAIT.replace("round & 1", "round & 1 ^ 1")), "race|async",
        "not waited for|of s, which thread",
    ),
    "always the same parity": (
        rounds(wait=WAIT.replace("round & 1", "0")), "race|async",
        "not waited for|of s, which thread",
    ),
    "more bytes than come": (
        rounds(start=f"{EXPECT.replace('256', '272')} {COPY}"), "deadlock", "wait for an mbarrier",
    ),
    "fewer bytes than come": (
        rounds(start=f"{EXPECT.replace('256', '240')} {COPY}"), "async", "16 bytes more than",
    ),
    "no bytes are expected": (
        rounds(start=f"{EXPECT.replace('.expect_tx', '').replace(', %1', '')} {COPY}"),
        "async", "not waited for|256 bytes more|ends while a bulk copy",
    ),
    "nobody arrives": (rounds(start=COPY), "deadlock", "wait for an mbarrier"),
    "an arrival too many": (
        rounds(init=f'{INIT.replace("(1)", "(2)")} {FENCE}', start=f"{EXPECT} {EXPECT} {EXPECT}"),
        "async|deadlock", "mbarrier",
    ),
    "nothing is copied": (rounds(start=EXPECT), "deadlock", "wait for an mbarrier"),
    "no barrier behind the start": (rounds(agree=""), "race|async", "of barrier|no mbarrier"),
    "the start is not shown": (rounds(init=INIT), "async", "has not shown what it wrote"),
    "it starts twice": (rounds(init=f"{INIT} {INIT} {FENCE}"), "async", "one already"),
    "none starts": (rounds(init=FENCE), "async", "there is no mbarrier"),
    "overwritten while it is read": (
        rounds(between=""), "race|divergence", "of s, which thread .* read|waits for an mbarrier",
    ),
    "written before, not shown": (
        rounds(init=f"{INIT} {FENCE} s[5] = 1;"), "async", "has not shown what it wrote",
    ),
    "under way at the end": (
        rounds(late=f"int round = 0; if (threadIdx.x == 0) {{ {EXPECT} {COPY} }}"),
        "async", "ends while a bulk copy",
    ),
    "half a chunk": (
        rounds(start=f"{EXPECT} {COPY}".replace("(256)", "(248)")), "misaligned", "248 bytes",
    ),
    "to the middle of a chunk": (
        rounds(start=f"{EXPECT} {COPY}".replace('"r"(to)', '"r"(to + 8)')),
        "misaligned", "of s at an address that is no multiple of 16",
    ),
    "from the middle of a chunk": (
        rounds(start=f"{EXPECT} {COPY}".replace("64 * round", "1 + 64 * round")),
        "misaligned", "of x at an address that is no multiple of 16",
    ),
    "beyond the end": (
        rounds(start=f"{EXPECT} {COPY}".replace("64 * round", "64 * round + 64")), "bounds", "of x",
    ),
    "beyond the buffer": (
        rounds(start=f"{EXPECT} {COPY}".replace('"r"(to)', '"r"(to + 128)')), "bounds", "of s",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    codes = {name: code for name, (code, _, _) in FAULTS.items()}
    codes["right"] = rounds()
    codes["written before, shown"] = rounds(init=f"{INIT} s[5] = 1; {FENCE}")
    return together(codes, tmp_path_factory.mktemp("bulk"))


@pytest.mark.parametrize("name", ["right", "written before, shown"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_bytes_arrive(bench: Bench, name: str, order: Order) -> None:
    found = bench.answer(name, {"x": X}, X.size, order)
    assert isinstance(found, np.ndarray), found
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_fault(bench: Bench, name: str, order: Order) -> None:
    _, kind, text = FAULTS[name]
    found = bench.answer(name, {"x": X}, X.size, order)
    assert isinstance(found, DeviceFault), found
    assert re.fullmatch(kind, found.kind), found
    assert re.search(text, str(found)), found


def test_states_of_arrivals_have_no_model() -> None:
    code = kernel(
        'unsigned long long state; asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" '
        ': "=l"(state) : "r"(0));'
    )
    with pytest.raises(EmulationGap, match=r"state of mbarrier\.arrive"):
        emulate(code, {"x": X}, {"y": ((32,), np.dtype(np.float32))})

import pytest

from tvmconv.cli.hot_loop import find_hot_loop

ASSEMBLY = """\
kernel:
\t.cfi_startproc
\txorl\t%eax, %eax
.LBB0_1:
\tvxorps\t%xmm0, %xmm0, %xmm0
.LBB0_2:
\tvbroadcastss\t(%rdi), %zmm1
\tvfmadd231ps\t(%rsi), %zmm1, %zmm2
\tvfmadd231ps\t64(%rsi), %zmm1, %zmm3
\taddq\t$4, %rdi
\tcmpq\t%rcx, %rdi
\tjne\t.LBB0_2
.LBB0_3:
\tvaddps\t(%rdx), %zmm2, %zmm4
\tjne\t.LBB0_3
\tjne\t.LBB0_1
\tretq
"""


def test_the_innermost_loop_with_the_most_arithmetic() -> None:
    loop = find_hot_loop(ASSEMBLY)
    assert loop is not None
    lines = loop.text.splitlines()
    assert lines[0] == ".LBB0_2:"
    assert lines[-1].split() == ["jne", ".LBB0_2"]
    assert (loop.instructions, loop.arithmetic) == (6, 2)
    assert loop.names[0] == ("vfmadd231ps", 2)
    assert loop.summary.startswith("6 instructions, 33% of them arithmetic: 2 vfmadd231ps")


def test_code_without_loops_has_none() -> None:
    assert find_hot_loop("f:\n\tvaddps\t%xmm0, %xmm1, %xmm2\n\tretq\n") is None
    assert find_hot_loop(".L1:\n\taddq\t$1, %rax\n\tjne\t.L1\n") is None


# The same loop as LLVM writes it for each machine: two multiply-adds and a branch back.
LOOPS = {
    "aarch64": ("fmla\tv1.4s, v2.4s, v3.s[0]", "b.ne\t.LBB0_1", 6),
    "sve": ("fmla\tz1.s, p0/m, z2.s, z3.s", "cbnz\tx8, .LBB0_1", 6),
    "armv7": ("vfma.f32\tq1, q2, d3[0]", "bne\t.LBB0_1", 6),
    "riscv64": ("fmadd.s\tfa0, fa1, fa2, fa0", "bltu\ta0, a1, .LBB0_1", 6),
    "macos": ("fmla.4s\tv1, v2, v3[0]", "tbnz\tw8, #0, LBB0_1", 6),
}


@pytest.mark.parametrize("machine", LOOPS)
def test_loops_of_other_machines(machine: str) -> None:
    arithmetic, jump, instructions = LOOPS[machine]
    label = jump.split()[-1]
    text = f"""\
kernel:
{label}:
\tldp\tq2, q3, [x8], #32
.Ltmp1:
\t{arithmetic}
\t{arithmetic}
\tadd\tx9, x9, #4
\tcmp\tx9, x10
\t{jump}
\tbl\tmemset
\tret
"""
    loop = find_hot_loop(text)
    assert loop is not None
    assert (loop.instructions, loop.arithmetic) == (instructions, 2)
    assert "Ltmp" not in loop.text
    assert loop.names[0] == (arithmetic.split()[0], 2)

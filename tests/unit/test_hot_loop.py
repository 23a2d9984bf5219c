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

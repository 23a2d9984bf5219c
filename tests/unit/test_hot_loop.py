import pytest

from tvmconv.hot_loop import find_hot_loop

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


def test_packing_is_not_hot() -> None:
    packing = ASSEMBLY.replace("kernel:", "kernel_pack_compute_:").replace("LBB0", "LBB1")
    packing = packing.replace("64(%rsi)", "128(%rsi)\n\tvfmadd231ps\t64(%rsi)")
    assert find_hot_loop(packing) is None
    assert find_hot_loop(packing + ASSEMBLY) == find_hot_loop(ASSEMBLY)
    assert find_hot_loop(ASSEMBLY + packing) == find_hot_loop(ASSEMBLY)


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


def test_spills_loads_and_chains_of_arm() -> None:
    text = """\
.LBB0_1:
\tldp\tq2, q3, [x8], #32
\tldr\tq4, [sp, #16]
\tldr\tx9, [sp, #8]
\tfmla\tv1.4s, v2.4s, v4.s[0]
\tfmla\tv5.4s, v3.4s, v4.s[0]
\tfmla\tv1.4s, v2.4s, v4.s[1]
\tstp\tq1, q5, [sp, #32]
\tb.ne\t.LBB0_1
"""
    loop = find_hot_loop(text)
    assert loop is not None
    assert [" ".join(s.split()) for s in loop.spills] == [
        "ldr q4, [sp, #16]",
        "stp q1, q5, [sp, #32]",
    ]
    assert loop.loads == 3
    assert loop.chain == 2


@pytest.mark.parametrize(
    ("line", "spilt"),
    [
        ("vmovaps\t%zmm3, 64(%rsp)", True),
        ("vmovaps\t64(%rsp), %ymm3", True),
        ("vmovaps\t64(%rdi), %ymm3", False),
        ("vstr\td8, [sp, #24]", True),
        ("vst1.64\t{d16, d17}, [r0:128]", False),
        ("vld1.64\t{d16, d17}, [sp:128]", True),
        ("add\tr3, sp, #48\n\tvld1.64\t{d16, d17}, [r3:128]", True),
        ("add\tr3, r4, #48\n\tvld1.64\t{d16, d17}, [r3:128]", False),
        ("ldr\td0, [sp, #8]", True),
        ("str\tx0, [sp, #8]", False),
    ],
)
def test_what_counts_as_a_spill(line: str, spilt: bool) -> None:
    text = f".LBB0_1:\n\tfmla\tv1.4s, v2.4s, v3.4s\n\t{line}\n\tb.ne\t.LBB0_1\n"
    loop = find_hot_loop(text)
    assert loop is not None
    assert bool(loop.spills) == spilt

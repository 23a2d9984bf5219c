"""Inline PTX becomes calls of models; what cannot be read is named."""

import pytest

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.emulate.cuda.ptx import translate_assembly
from tvmconv.emulate.cuda.source import kernel_table, launch_fault, translate
from tvmconv.errors import DeviceFault, EmulationGap


@pytest.mark.parametrize(
    ("ptx", "expected"),
    [
        ('"cp.async.commit_group;"', "emulated::ptx::cp_async_commit_group();"),
        ('"cp.async.wait_group %0;" :: "n"(N - 1)', "cp_async_wait_group((N - 1));"),
        (
            '"cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" :: "r"(a), "l"(p), "r"(n)',
            "cp_async(register0_, register1_, 16, register2_);",
        ),
        ('"bar.sync 2, 128;"', "emulated::barrier(2, 128, 1);"),
        ('"bar.arrive %0, 64;" :: "r"(id)', "emulated::arrive(register0_, 64, 1);"),
        (
            '"{ .reg .pred p; setp.ne.b32 p, %0, 0; @!p mov.b32 %1, 7; }" :: "r"(a), "r"(b)',
            "if (!own_p) { register1_ = 7; }",
        ),
        (
            '"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2 + 32];"'
            ' : "=r"(a), "=r"(b) : "r"(p)',
            "ldmatrix<true>(1, (register2_ + 32), register0_, register1_);",
        ),
        (
            '"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, '
            '{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"'
            + " : "
            + ", ".join(f'"+f"(c{i})' for i in range(4))
            + " : "
            + ", ".join(f'"r"(a[{i}])' for i in range(6)),
            "mma_sync<emulated::ptx::TF32, 8>(1, register0_, register1_, register2_, register3_, "
            "register4_,",
        ),
        ('"mov.f32 %0, 0f3F800000;" : "=f"(v)', "register0_ = emulated::float_of(0x3F800000u);"),
        ('"mov.u32 %0, %%laneid;" : "=r"(v)', "register0_ = (uint32_t)emulated::current->lane;"),
        ('"prefetch.global.L2 [%0];" :: "l"(p)', "{ ;"),
    ],
)
def test_instructions(ptx: str, expected: str) -> None:
    found = translate_assembly(f"asm volatile({ptx});")
    assert expected in found
    assert "asm" not in found


def test_results_come_back_by_their_expressions() -> None:
    found = translate_assembly('asm("add.s32 %0, %1, %0;" : "+r"(v[i]) : "r"(f(a, b)));')
    assert "auto &bound0_ = (v[i]); uint32_t register0_ = (uint32_t)bound0_;" in found
    assert "uint32_t register1_ = (uint32_t)(f(a, b));" in found
    assert "register0_ = (int32_t)(register1_) + (int32_t)(register0_);" in found
    assert "bound0_ = (std::remove_reference_t<decltype(bound0_)>)register0_;" in found


def test_lines_stay_where_they_are() -> None:
    plain = 'a;\nasm volatile(\n"cp.async.commit_group;\\n"\n::: "memory");\nb;\n'
    assert translate_assembly(plain).splitlines()[4] == "b;"
    macro = '#define GO \\\n  asm("cp.async.commit_group;" \\\n  );\nb;\n'
    assert translate_assembly(macro).splitlines()[3] == "b;"
    assert translate_assembly(macro).splitlines()[1].endswith("\\")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('asm("tcgen05.alloc.sync %0;" :: "r"(a));', "got 'tcgen05.alloc.sync'"),
        ('asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 %0;" :: "r"(a));', "m8n8k4"),
        ('asm("mov.b32 %0, %%clock;" : "=r"(a));', "%clock"),
        ('asm("mov.b32 %0, 1;" : "=q"(a));', '"=q"'),
        ('asm("mov.b32 %0, 1" : "=r"(a));', "mov.b32 %0, 1"),
        ('asm("mov.b32 %0, 1;" : "=r"(a);', "not closed"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, named: str) -> None:
    with pytest.raises(EmulationGap, match=named.replace("(", r"\(")):
        translate_assembly(text)


def code(body: str, **launch: object) -> DeviceCode:
    given = {"grid": (1, 1, 1), "block": (32, 1, 1), "shared_bytes": 0, "args": ("x",)} | launch
    source = f'extern "C" __global__ void __launch_bounds__(64, 2) k(float *x) {{ {body} }}'
    return DeviceCode(source, (Launch("k", **given),))  # type: ignore[arg-type]


def test_shared_arrays() -> None:
    found = translate(code("__shared__ alignas(64) half a[2][ 8 ]; __shared__ int flag;"), 3)
    assert 'auto &a = emulated::shared<half[2][8]>("a", __LINE__, 64);' in found
    assert 'auto &flag = emulated::shared<int>("flag", __LINE__, 1);' in found
    assert "#define k emulated3_k" in found
    dynamic = translate(code("extern __shared__ __align__(64) uchar buffer[];"), 0)
    assert 'uchar *buffer = (uchar *)emulated::dynamic_shared("buffer");' in dynamic


def test_comments_are_no_code() -> None:
    found = translate(code('// __shared__ memory, asm("x")\n/* __shared__\n too */ f("//");'), 0)
    assert "__shared__" not in found
    assert 'f("//");' in found
    assert found.count("\n") == translate(code("\n\n"), 0).count("\n")


def test_declarations_that_cannot_be_read() -> None:
    with pytest.raises(EmulationGap, match=r"cannot read the declaration .*__shared__ int a, b;"):
        translate(code("__shared__ int a, b;"), 0)


def test_kernels_are_counted_through() -> None:
    text, places = kernel_table([code(""), code("")])
    assert places == {(0, "k"): 0, (1, "k"): 1}
    assert "source1::emulated1_k" in text


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"block": (65, 1, 1)}, "65 threads a block, of at most 64"),
        ({"block": (0, 1, 1)}, "0 threads"),
        ({"grid": (1, 1, 70000)}, "of at most 65535 along y and z"),
        ({"grid": (0, 1, 1)}, "a grid of"),
        ({"grid": (70000, 65535, 1)}, None),
    ],
)
def test_launches_that_no_gpu_takes(launch: dict[str, object], said: str | None) -> None:
    refused = code("", **launch)
    fault = launch_fault(refused.launches[0], refused.source)
    assert (fault is None) == (said is None)
    if said is not None:
        assert isinstance(fault, DeviceFault)
        assert fault.kind == "launch"
        assert said in str(fault)

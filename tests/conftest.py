"""What every test may use: golden files, and markers that skip by what this machine can run."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.stand_in.kernels import StandIn, build_driver

if TYPE_CHECKING:
    from tvmconv.cuda.compiler import CudaCompiler

# The same examples in every run; scripts/fuzz.py is for new ones. Compiling has no deadline.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")

GOLDEN = Path(__file__).parent / "golden"

# The kernel reports a feature under these names; "isa" names are those of the target files.
ISA_FLAGS = {
    "sse42": {"sse4_2"},
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
}


def pytest_configure() -> None:
    """Let Ctrl-C end programs that tests start: a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def cpu_flags() -> frozenset[str]:
    """The feature flags of this machine's CPU, as Linux names them."""
    info = Path("/proc/cpuinfo")
    found = (
        re.search(r"^(?:flags|Features)\s*:(.*)$", info.read_text(), re.M)
        if info.exists()
        else None
    )
    return frozenset(found[1].split()) if found else frozenset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    flags = cpu_flags()
    for item in items:
        for mark in item.iter_markers("isa"):
            name = str(mark.args[0]).lower().replace(".", "").replace("-", "")
            if name not in ISA_FLAGS:
                raise pytest.UsageError(
                    f"{item.nodeid}: isa({mark.args[0]!r}) is none of {[*ISA_FLAGS]}"
                )
            missing = sorted(ISA_FLAGS[name] - flags)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"this CPU lacks {', '.join(missing)}"))
        if item.get_closest_marker("gpu") is not None and (reason := without_gpu()):
            item.add_marker(pytest.mark.skip(reason=reason))


@cache
def without_gpu() -> str:
    """Why there is no GPU to test on; empty where there is one."""
    from tvmconv.cuda.driver import driver
    from tvmconv.errors import DeviceError

    try:
        driver().device(0)
    except DeviceError as error:
        return str(error)
    return ""


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a text with the file that carries the test's own name.

    `tests/schedules/test_x86.py::test_trace[spec]` has its text in
    `tests/golden/schedules/test_x86/test_trace-spec.txt`; `--update-golden` writes it.
    """
    module = Path(str(request.node.path)).relative_to(Path(__file__).parent).with_suffix("")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name).strip("-")
    path = GOLDEN / module / f"{name}.txt"

    def check(text: str) -> None:
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if not path.exists():
            pytest.fail(f"no golden file {path}; run pytest --update-golden, then read the change")
        expected = path.read_text()
        assert text == expected, f"differs from {path}; if meant, run pytest --update-golden"

    return check


@pytest.fixture(scope="session")
def cuda_compiler() -> "CudaCompiler":
    """Something that compiles for NVIDIA GPUs."""
    from tvmconv.cuda.compiler import find_cuda_compiler
    from tvmconv.errors import EnvironmentProblem

    try:
        return find_cuda_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


@pytest.fixture
def disassembler() -> None:
    """Something that lists the machine code of NVIDIA GPUs."""
    from tvmconv.cuda.places import program

    if not (program("nvdisasm") or program("cuobjdump")):
        pytest.skip("neither nvdisasm nor cuobjdump is installed")


@pytest.fixture(scope="session")
def stand_in_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libcuda (tests/stand_in), compiled."""
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("the stand-in for libcuda needs gcc and g++")
    return build_driver(tmp_path_factory.mktemp("libcuda"))


@pytest.fixture
def stand_in(
    stand_in_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """A machine with one GPU, sm_90, that runs on the CPU what `StandIn.kernels` holds."""
    from tvmconv.cuda import driver

    made = StandIn(stand_in_library, tmp_path / "kernels", tmp_path / "calls.log", monkeypatch)
    made.kernels.mkdir()
    monkeypatch.setattr(driver, "LIBRARY", str(stand_in_library))
    driver._driver.cache_clear()
    yield made
    driver._driver.cache_clear()

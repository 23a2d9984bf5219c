from importlib.metadata import PackageNotFoundError

import pytest

from tvmconv.environment import FFI_VERSIONS, TVM_VERSION, check_environment, check_pair
from tvmconv.errors import EnvironmentProblem, TvmconvError


def installed(tvm: str | None, ffi: str | None) -> None:
    versions = {"apache-tvm": tvm, "apache-tvm-ffi": ffi}

    def version_of(package: str) -> str:
        found = versions[package]
        if found is None:
            raise PackageNotFoundError(package)
        return found

    check_pair(version_of)


@pytest.mark.parametrize("ffi", FFI_VERSIONS)
def test_tried_pairs_pass(ffi: str) -> None:
    installed(TVM_VERSION, ffi)


@pytest.mark.parametrize(
    ("tvm", "ffi", "package", "found"),
    [
        (TVM_VERSION, "0.1.15", "apache-tvm-ffi", "0.1.15"),
        ("0.26.0", FFI_VERSIONS[0], "apache-tvm", "0.26.0"),
        (None, None, "apache-tvm", "not installed"),
        (TVM_VERSION, None, "apache-tvm-ffi", "not installed"),
    ],
)
def test_other_pairs_are_one_clear_error(
    tvm: str | None, ffi: str | None, package: str, found: str
) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        installed(tvm, ffi)
    assert isinstance(caught.value, TvmconvError)
    message = str(caught.value)
    assert message.startswith(f"{package}: got {found!r}")
    assert "pip install apache-tvm==" in message
    assert "\n" not in message


def test_this_environment_passes() -> None:
    check_environment()

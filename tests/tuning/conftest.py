"""What several tests of the tuner need."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script() -> ModuleType:
    """scripts/build_prior.py as a module."""
    location = importlib.util.spec_from_file_location(
        "build_prior", ROOT / "scripts" / "build_prior.py"
    )
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module

import json
from dataclasses import replace

import pytest

from tvmconv.bench.machine import Machine
from tvmconv.bench.roofline import Roofline, measure_roofline


def test_the_machine_is_described_in_plain_values() -> None:
    machine = Machine.here(threads=1)
    found = json.loads(json.dumps(machine.as_dict()))
    assert found["cores"] >= 1
    assert found["threads"] == 1
    assert {"tvmconv", "apache-tvm", "apache-tvm-ffi", "torch", "numpy"} <= set(found["versions"])
    assert machine.cpu in str(machine)


def test_what_makes_figures_doubtful_is_said() -> None:
    quiet = replace(Machine.here(threads=1), load=0.1, cores=4, governor="performance")
    assert quiet.warnings == ()
    (busy,) = replace(quiet, load=3.5).warnings
    assert "load was 3.5" in busy
    (saving,) = replace(quiet, governor="powersave").warnings
    assert "'powersave'" in saving


def test_roofline_is_the_lower_of_two_limits() -> None:
    limits = Roofline(gflops=200.0, cache_gbytes=100.0, memory_gbytes=20.0)
    assert limits.ridge == 10.0
    assert limits.attainable(5.0) == 100.0
    assert limits.attainable(50.0) == 200.0


@pytest.mark.parametrize("lanes", [4, 8])
def test_limits_are_measured(lanes: int) -> None:
    limits = measure_roofline(lanes)
    assert limits.gflops > 0.1
    assert limits.cache_gbytes > 0.1
    assert limits.memory_gbytes > 0.1

"""Memory orders: names and shapes."""

import pytest

from tvmconv import layouts
from tvmconv.errors import SpecError


def test_names() -> None:
    assert [layouts.channels_first(rank) for rank in (1, 2, 3)] == ["NCW", "NCHW", "NCDHW"]
    assert [layouts.channels_last(rank) for rank in (1, 2, 3)] == ["NWC", "NHWC", "NDHWC"]
    assert layouts.of_rank("nlc", 1) == layouts.of_rank("NHWC", 1) == "NWC"
    assert layouts.of_rank("NDHWC", 3) == "NDHWC"
    assert layouts.is_channels_last("NHWC")
    assert not layouts.is_channels_last("CGNHW")


@pytest.mark.parametrize(("layout", "rank"), [("NDHWC", 2), ("NLC", 2), ("CN", 1), (None, 2)])
def test_unknown(layout: str, rank: int) -> None:
    with pytest.raises(SpecError, match="layout"):
        layouts.of_rank(layout, rank)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CGNHW", "CNHW"])
def test_shape(layout: str) -> None:
    shape = layouts.shape(layout, 2, 12, 3, (5, 7))
    assert shape == tuple(
        {"N": 2, "C": 4 if "G" in layout else 12, "G": 3, "H": 5, "W": 7}[a] for a in layout
    )

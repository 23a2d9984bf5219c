"""Configs print, parse and index; spaces say which value is wrong and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmconv.errors import InvalidConfig
from tvmconv.space import Config, ConfigSpace, Value

NAMES = st.from_regex(r"[a-z]+(_[a-z]+)?", fullmatch=True)
WORDS = st.from_regex(r"[a-z]+", fullmatch=True)
VALUES: st.SearchStrategy[Value] = st.one_of(st.integers(-(2**40), 2**40), WORDS)


@st.composite
def spaces(draw: st.DrawFn) -> ConfigSpace:
    """Up to four knobs of up to four values; every third point by its text is invalid."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    knobs = {
        name: tuple(draw(st.lists(VALUES, min_size=1, max_size=4, unique=True))) for name in names
    }

    def valid(config: Config) -> str | None:
        return "not today" if sum(str(config).encode()) % 3 == 0 else None

    return ConfigSpace(knobs, valid)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_config_text_parses_back(knobs: dict[str, Value]) -> None:
    config = Config.of(**knobs)
    assert Config.parse(str(config)) == config
    for name, value in knobs.items():
        read = config.integer if isinstance(value, int) else config.text
        assert read(name) == value


@pytest.mark.parametrize("word", ["--5", "-", "5-", "\u00b2", "\u0663", "1.5", "0x10"])
def test_what_only_resembles_a_number_is_a_word(word: str) -> None:
    assert Config.parse(f"stage={word}").text("stage") == word


def test_config_is_a_value() -> None:
    config = Config.parse("tile_oc=32,stage=pixels")
    assert config == Config.of(tile_oc=32, stage="pixels")
    assert hash(config) == hash(Config.of(tile_oc=32, stage="pixels"))
    assert config != Config.of(stage="pixels", tile_oc=32)


@pytest.mark.parametrize("text", ["tile_oc", "tile_oc=", "=3", "tile_oc=3,stage", "a=1,,=2"])
def test_text_that_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="knob=value"):
        Config.parse(text)


@pytest.mark.parametrize(
    ("name", "read", "allowed"),
    [("stage", "integer", "an int"), ("tile_oc", "text", "a word"), ("tile", "integer", "an int")],
)
def test_knob_of_the_wrong_kind_is_named(name: str, read: str, allowed: str) -> None:
    config = Config.of(tile_oc=32, stage="pixels")
    with pytest.raises(InvalidConfig) as error:
        getattr(config, read)(name)
    assert error.value.argument == f"config {name}"
    assert error.value.allowed == allowed


@given(spaces())
def test_index_inverts_at(space: ConfigSpace) -> None:
    for index in range(space.grid_size):
        config = space.at(index)
        if space.valid(config) is None:
            assert space.index(config) == index
        else:
            with pytest.raises(InvalidConfig, match="not today"):
                space.index(config)


@given(spaces())
def test_iteration_gives_every_valid_config_once(space: ConfigSpace) -> None:
    configs = list(space)
    assert len(configs) == len(set(configs)) == len(space) <= space.grid_size
    assert all(space.valid(config) is None for config in configs)


def test_last_knob_runs_fastest() -> None:
    space = ConfigSpace({"a": (1, 2), "b": (3, 4)}, lambda config: None)
    assert [str(config) for config in space] == ["a=1,b=3", "a=1,b=4", "a=2,b=3", "a=2,b=4"]


SPACE = ConfigSpace(
    {"tile": (4, 8), "stage": ("none", "pixels")},
    lambda config: "8 does not fit" if config == Config.of(tile=8, stage="none") else None,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile=4", "config knobs: got 'tile'; allowed: tile,stage"),
        ("stage=none,tile=4", "config knobs: got 'stage,tile'; allowed: tile,stage"),
        ("tile=5,stage=none", "config tile: got 5; allowed: one of 4, 8"),
        ("tile=4,stage=rows", "config stage: got 'rows'; allowed: one of none, pixels"),
        ("tile=8,stage=none", "config tile=8,stage=none: 8 does not fit"),
    ],
)
def test_config_outside_the_space_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        SPACE.check(Config.parse(text))
    assert str(error.value) == message

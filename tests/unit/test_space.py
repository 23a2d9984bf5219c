"""Configs print, parse and index; spaces say which value is wrong and what is allowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmconv import space as space_module
from tvmconv.errors import ArgumentError, InvalidConfig
from tvmconv.space import Columns, Config, Configs, ConfigSpace, Value, columns_of, even_splits

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


def test_a_space_is_defined_knob_by_knob() -> None:
    space = (
        ConfigSpace()
        .define_knob("stage", ("none", "pixels"))
        .define_split("block", 56, 4)
        .where(lambda config: "in place" if config.text("stage") == "none" else None)
    )
    assert space.knobs == {"stage": ("none", "pixels"), "block": (1, 14, 19, 28, 56)}
    assert [str(config) for config in space][:2] == [
        "stage=pixels,block=1",
        "stage=pixels,block=14",
    ]


@pytest.mark.parametrize(("name", "choices"), [("a", (1, 2)), ("b", ()), ("b", (1, 2, 1))])
def test_knobs_that_make_no_sense_are_refused(name: str, choices: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"knob: got 'a'|choices of b: got "):
        ConfigSpace({"a": (1,)}).define_knob(name, choices)


@given(st.integers(1, 2000), st.integers(1, 600))
def test_splits_are_even(extent: int, most: int) -> None:
    sizes = even_splits(extent, most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == extent
    for size in sizes[1:]:
        parts = -(-extent // size)
        assert parts <= most
        assert size == -(-extent // parts)


@given(spaces())
def test_columns_are_the_configs_values(space: ConfigSpace) -> None:
    configs = space.configs()
    assert list(configs) == list(space)
    assert list(configs[1:]) == list(configs)[1:]
    plain = columns_of(list(configs))
    assert isinstance(configs, Configs)
    for name in space.knobs:
        assert list(columns_of(configs)[name]) == [dict(c.items)[name] for c in configs]
        assert not len(configs) or list(plain[name]) == list(configs.columns[name])


def test_a_filter_of_columns_replaces_the_filter_of_configs() -> None:
    def rows(columns: Columns) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return columns["a"] + columns["b"] < 5

    def never(config: Config) -> str | None:
        raise AssertionError(config)

    space = ConfigSpace({"a": (1, 2, 3), "b": (1, 2, 3)}).where(never, rows)
    assert len(space) == 6
    assert len(space.configs(np.array([0, 8, 4]))) == 2


def test_large_spaces_are_walked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    space = ConfigSpace({"a": tuple(range(10)), "b": tuple(range(10))})
    whole = list(space)
    monkeypatch.setattr(space_module, "AT_ONCE", 7)
    assert list(space) == whole == list(space.configs())
    assert len(space) == 100

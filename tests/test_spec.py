from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundmark.errors import SpecError
from soundmark.spec import (
    Range,
    Spec,
    bounded,
    candidates,
    corners,
    is_open,
    lookup,
    parse,
    parse_joined,
    parse_range,
    settled,
    take,
    with_settings,
)

WORD = st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("esc50", Spec("esc50")),
        ("esc50:danger", Spec("esc50", view="danger")),
        ("cnn14@block4", Spec("cnn14", layer="block4")),
        ("logmel?hop=256&bands=128", Spec("logmel", settings={"hop": "256", "bands": "128"})),
        (" cnn14@block4?rate=16000 ", Spec("cnn14", layer="block4", settings={"rate": "16000"})),
    ],
)
def test_parse(text: str, expected: Spec) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "?", "a?b", "a?=1", "a?b=", "a?b=1&b=2", ":x", "@x", "a b=c?", "a+b"])
def test_what_is_not_in_the_grammar_is_named(text: str) -> None:
    with pytest.raises(SpecError, match=r"cannot read|stands twice"):
        parse(text)


@given(WORD, WORD | st.just(""), WORD | st.just(""), st.dictionaries(WORD, WORD, max_size=3))
def test_a_spec_survives_being_written_and_read(name: str, view: str, layer: str, settings: dict[str, str]) -> None:
    spec = Spec(name, view, layer, settings)
    assert parse(str(spec)) == spec


def test_the_written_form_does_not_depend_on_the_order_of_settings() -> None:
    assert str(parse("a?y=2&x=1")) == str(parse("a?x=1&y=2")) == "a?x=1&y=2"


def test_joined_names() -> None:
    assert [str(each) for each in parse_joined("logmel?hop=256+mfcc")] == ["logmel?hop=256", "mfcc"]


def test_candidates_are_every_combination_in_the_order_of_the_text() -> None:
    assert candidates("svm?C=1,10&gamma=scale") == ["svm?C=1&gamma=scale", "svm?C=10&gamma=scale"]
    assert candidates("mean|mean+std") == ["mean", "mean+std"]
    assert candidates("a?x=1,2+b?y=3,4") == ["a?x=1+b?y=3", "a?x=1+b?y=4", "a?x=2+b?y=3", "a?x=2+b?y=4"]


def test_take_converts_by_the_default() -> None:
    spec = parse("x?i=3&f=2&b=true&s=abc&n=1.5&t=scale")
    given = take(spec, {"i": 1, "f": 1.0, "b": False, "s": "", "n": None, "t": None, "untouched": 7})
    assert given == {"i": 3, "f": 2.0, "b": True, "s": "abc", "n": 1.5, "t": "scale", "untouched": 7}
    assert isinstance(given["f"], float)


@pytest.mark.parametrize("text", ["x?i=1.5", "x?i=a", "x?b=yes", "x?f=one"])
def test_a_value_of_the_wrong_type_is_named(text: str) -> None:
    with pytest.raises(SpecError, match="should be of type"):
        take(parse(text), {"i": 1, "b": True, "f": 1.0})


def test_an_unknown_setting_lists_the_known() -> None:
    with pytest.raises(SpecError, match="hop=512, bands=64"):
        take(parse("logmel?hops=3"), {"hop": 512, "bands": 64})


def test_lookup_lists_what_there_is() -> None:
    assert lookup("head", "a", {"a": 1}) == 1
    with pytest.raises(SpecError, match="no head called 'c'; there are: a, b"):
        lookup("head", "c", {"b": 1, "a": 1})


def test_settings_are_added_to_every_part_of_every_alternative() -> None:
    text = with_settings("mn04@block9+mn04|logmel?hop=256", engine="onnx", precision=None)
    assert text == "mn04@block9?engine=onnx+mn04?engine=onnx|logmel?engine=onnx&hop=256"
    assert with_settings("mn04 | cnn14", engine=None) == "mn04 | cnn14"


@pytest.mark.parametrize(
    ("value", "expected", "log", "middle"),
    [
        ("8..32", Range(8, 32, True), False, "20"),
        ("1..100", Range(1, 100, True), True, "10"),
        ("-6..6", Range(-6, 6, True), False, "0"),
        ("0..12.5", Range(0, 12.5, False), False, "6.25"),
        ("0.001..10", Range(0.001, 10, False), True, "0.1"),
        ("1e-4..1e-2", Range(1e-4, 1e-2, False), True, "0.001"),
        (".5..0.75", Range(0.5, 0.75, False), False, "0.625"),
    ],
)
def test_ranges(value: str, expected: Range, log: bool, middle: str) -> None:
    found = parse_range(value)
    assert found == expected
    assert found is not None
    assert found.log is log
    assert found.write(found.middle) == middle


@pytest.mark.parametrize(
    "value", ["1..", "..5", "1...5", "5..1", "1..1", "1..2..3", "1..x", "1..2,5", "5,1..2", "0..1e999"]
)
def test_half_a_range_is_named(value: str) -> None:
    with pytest.raises(SpecError, match="cannot read the range"):
        parse_range(value)


@pytest.mark.parametrize("value", ["1", "1,2", "scale", "../weights.pth", "a..b", "..", "1.5"])
def test_what_is_no_range(value: str) -> None:
    assert parse_range(value) is None
    assert not is_open(f"a?x={value}")


@given(st.floats(-1e12, 1e12, allow_subnormal=False), st.floats(1e-9, 1e12), st.floats(0, 1), st.booleans())
def test_what_is_drawn_is_written_within_the_range(low: float, width: float, share: float, whole: bool) -> None:
    low = float(round(low)) if whole else low
    high = low + (float(round(width)) + 1 if whole else width)
    if not low < high:
        return
    text = Range(low, high, whole).write(low + share * (high - low))
    assert low <= float(text) <= high
    assert not set(text) & set("+&?|,=")
    assert not whole or int(text) == float(text)


def test_open_names_are_settled_one_thing_after_the_other() -> None:
    asked: list[tuple[str, object]] = []

    def choose(name: str, among: Range | list[str]) -> str:
        asked.append((name, among))
        return among.write(among.high) if isinstance(among, Range) else among[-1]

    assert settled("a?x=1..3&y=q,w&z=5+b?x=0.1..0.2", "kind", choose) == "a?x=3&y=w&z=5+b?x=0.2"
    assert asked == [("a.x", Range(1, 3, True)), ("a.y", ["q", "w"]), ("b.x", Range(0.1, 0.2, False))]
    asked.clear()
    assert settled("a?x=1..3|b|c?y=1,2", "kind", choose) == "c?y=2"
    assert asked == [("kind", ["a?x=1..3", "b", "c?y=1,2"]), ("c.y", ["1", "2"])]
    asked.clear()
    assert settled("esc50:danger", "task", choose) == "esc50:danger"
    assert asked == []


def test_corners_are_the_ends_of_ranges_and_all_of_a_list() -> None:
    assert corners("a?x=1..3&y=q,w+b") == ["a?x=1&y=q+b", "a?x=1&y=w+b", "a?x=3&y=q+b", "a?x=3&y=w+b"]
    assert corners("a?x=0.5..1|b") == ["a?x=0.5", "a?x=1", "b"]
    assert corners("mean+std") == ["mean+std"]


def test_open_is_what_holds_a_range_somewhere() -> None:
    assert is_open("a|b+c?x=1..2")
    assert not is_open("a?x=1,2|b+c?x=1")
    with pytest.raises(SpecError, match="cannot read the range"):
        is_open("a?x=1..2&y=1..")


@given(st.floats(allow_nan=True), st.floats(-10, 10), st.floats(-10, 10))
def test_a_number_is_within_its_bounds_or_refused(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low <= value <= high:
        bounded(parse("cnn"), {"width": value}, width=(low, high))
    else:
        with pytest.raises(SpecError, match="in 'cnn' is out of bounds: it must lie from"):
            bounded(parse("cnn"), {"width": value}, width=(low, high))


def test_a_word_is_one_of_those_there_are_or_refused() -> None:
    bounded(parse("gain"), {"on": "levels"}, on=("levels", "waveform"))
    with pytest.raises(SpecError, match="on=disk in 'gain': it is one of levels, waveform"):
        bounded(parse("gain"), {"on": "disk"}, on=("levels", "waveform"))

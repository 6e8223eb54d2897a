from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundmark.errors import SpecError
from soundmark.spec import Spec, candidates, lookup, parse, parse_joined, take, with_settings

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

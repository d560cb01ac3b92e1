"""Values in the dialects that models write."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.parse.source import NotACallError, Source
from corral.parse.values import JSON, PYTHON, Dialect, Echo, braces, json_text, value, whole

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
JSONS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


class Echoed(Echo):
    def __init__(self) -> None:
        self.heard = ""

    def sign(self, text: str) -> None:
        self.heard += text

    def text(self, text: str) -> None:
        self.heard += json_text(text)[1:-1]

    def value(self, value: Any) -> None:
        self.heard += json_text(value)


def read(text: str, dialect: Dialect, chunks: list[str] | None = None) -> Any:
    """The value that a text is, whose echo must mean the same."""
    echo = Echoed()
    found = read_with(echo, text, dialect, chunks)
    assert json.dumps(json.loads(echo.heard)) == json.dumps(found)
    return found


def read_with(echo: Echo, text: str, dialect: Dialect, chunks: list[str] | None = None) -> Any:
    source = Source()
    reading = value(source, dialect, echo=echo)
    try:
        for chunk in chunks or [text]:
            source.feed(chunk)
            next(reading)
        source.is_closed = True
        next(reading)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for more than all")


@given(JSONS, st.booleans(), st.sampled_from((None, 1)))
def test_json_is_read_as_the_standard_library_reads_it(what: Any, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(what, ensure_ascii=is_ascii, indent=indent)
    wanted = json.loads(text)
    assert whole(text) == wanted
    assert read(text, JSON, list(text)) == wanted


@given(JSONS, st.booleans(), st.integers(1, 5))
def test_echo_is_the_value_in_compact_json(what: Any, is_ascii: bool, size: int) -> None:
    text = json.dumps(what, ensure_ascii=is_ascii, indent=1)
    echo = Echoed()
    read_with(echo, text, JSON, [text[at : at + size] for at in range(0, len(text), size)])
    assert echo.heard == json_text(what)


def test_echo_comes_as_the_value_is_read() -> None:
    source, echo = Source(), Echoed()
    reading = value(source, JSON, echo=echo)
    heard = []
    for chunk in ('{ "a', '"', " :", ' "b\\', "u00e", "4c \\ud83d", '\\ude00" , ', '"d": [1', ", tru", "e,", "], ", "}"):
        source.feed(chunk)
        next(reading, None)
        heard.append(echo.heard)
        echo.heard = ""
    assert heard == ["", "", '{"a":', '"b', "", "äc ", '😀"', ',"d":[', "1,", "true", "]", "}"]


ODD = {
    "raw newline": ('"a\nb"', "a\nb"),
    "escape that is none": (r'"\d\q"', r"\d\q"),
    "single quote escaped": (r'"it\'s"', "it's"),
    "half a pair": (r'"\ud83d!"', "\ufffd!"),
    "half a pair at the end": (r'"\ud83d"', "\ufffd"),
    "second half alone": (r'"\ude00!"', "\ufffd!"),
    "first half twice": (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
    "half a pair and an escape": (r'"\ud83d\n"', "\ufffd\n"),
    "escape with too few digits": (r'"\u12\x4"', r"\u12\x4"),
    "escape of one byte": (r'"\x41"', "A"),
    "a pair": (r'"\ud83d\ude00"', "\U0001f600"),
    "comma too many": ('[1, {"a": 2,},]', [1, {"a": 2}]),
    "words of Python": ("[True, False, None]", [True, False, None]),
    "big number": ("123456789012345678901234567890", 1.2345678901234568e29),
    "beyond all floats": ("[1e999, -1e999]", [sys.float_info.max, -sys.float_info.max]),
    "key twice": ('{"a": 1, "a": 2}', {"a": 2}),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_clear_is_taken(case: str) -> None:
    text, wanted = ODD[case]
    assert whole(text) == wanted
    assert read(text, JSON) == read(text, JSON, list(text)) == wanted


@pytest.mark.parametrize(
    "text", ["", "{", "[1", '"a', "01x", "1.", "--1", "NaN", "Infinity", "{1: 2}", "[1 2]", "a", "1 2", "٣"]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(NotACallError):
        whole(text)


def test_python_is_read() -> None:
    assert read("""{'a': "it's", "b": [1, -2.5, True, None], 'c': 'x\\n\\'y\\''}""", PYTHON) == {
        "a": "it's",
        "b": [1, -2.5, True, None],
        "c": "x\n'y'",
    }


def test_braces_are_read() -> None:
    text = '{a:<|"|>say "hi" \\n {x}<|"|>,b:[1,true,{c:null}],<|"|>d e<|"|>:{}}'
    wanted = {"a": 'say "hi" \\n {x}', "b": [1, True, {"c": None}], "d e": {}}
    assert read(text, braces('<|"|>')) == wanted
    assert read(text, braces('<|"|>'), list(text)) == wanted

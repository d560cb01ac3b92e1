"""Where texts are cut, held against llama.cpp's own way of finding names, done again here step by step."""

import random
from collections.abc import Sequence

import pytest

from corral.engine.llamacpp.worker.native import cuts
from corral.engine.llamacpp.worker.native.cuts import Cuts, Special

SPACE = b" \t\n\v\f\r"
Fragment = bytes | tuple[str, bytes]


def fragments(data: bytes, specials: Sequence[Special]) -> list[Fragment]:
    """Text, and the names found in it: the longest first, each from the left, as tokenizer_st_partition has it."""
    found: list[Fragment] = [data] if data else []
    for special in sorted(specials, key=lambda special: -len(special.name)):
        found = [part for fragment in found for part in _parted(fragment, special)]
    return found


def _parted(fragment: Fragment, special: Special) -> list[Fragment]:
    if not isinstance(fragment, bytes):
        return [fragment]
    out: list[Fragment] = []
    while (at := fragment.find(special.name)) >= 0:
        left, fragment = fragment[:at], fragment[at + len(special.name) :]
        left = left.rstrip(SPACE) if special.strips_left else left
        fragment = fragment.lstrip(SPACE) if special.strips_right else fragment
        out += [left, ("name", special.name)] if left else [("name", special.name)]
        if not fragment:
            return out
    return [*out, fragment]


VOCABULARIES = [
    pytest.param(["<a>", "</a>", "<b>"], "", "", id="apart"),
    pytest.param(["<|", "|>", "<|a|>", "a|>b", "|"], "", "", id="one within the other"),
    pytest.param(["aa", "aaa", "ab", "ba", "bab", "b b"], "", "", id="one across the other"),
    pytest.param(["\n", "\n\n", "\n\n\n", "a\n", " \n "], "", "", id="white space"),
    pytest.param(["<a>", "<b>", "<c>", "a", " "], "<a>", "<b>", id="stripping"),
    pytest.param(["\n", "<a>", "<b>\n", "\n<c>"], "<a>", "<a>", id="stripping both ways"),
    pytest.param(["a"], "", "", id="one letter"),
    pytest.param(["", "ü", "🦙", "🦙ü"], "", "", id="many bytes"),
]


@pytest.mark.parametrize(("names", "left", "right"), VOCABULARIES)
def test_parts_have_the_names_of_the_whole(names: list[str], left: str, right: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "_PART_BYTES", 1)
    monkeypatch.setattr(cuts, "_SLICE_BYTES", 7)
    specials = [Special(n.encode(), strips_left=n == left, strips_right=n == right) for n in names if n]
    cutting, draw, parted = Cuts(specials), random.Random(1), 0
    pieces = [*names, *(name[:at] for name in names for at in range(len(name))), " ", "\n", "x", "b", "a", "<", "  \t"]
    for _ in range(2000):
        data = "".join(draw.choices(pieces, k=draw.randrange(25))).encode()
        parts = list(cutting.parts(data))
        assert b"".join(parts) == data
        assert [one for part in parts for one in fragments(part, specials)] == fragments(data, specials)
        parted += len(parts) - 1
    assert parted > 200


def test_short_text_is_one_part() -> None:
    assert list(Cuts([Special(b"<a>")]).parts(b"<a>" * 100)) == [b"<a>" * 100]


def test_long_text_of_names_is_cut_in_small_parts() -> None:
    parts = list(Cuts([Special(b"<a>")]).parts(b"<a>" * 100_000))
    assert max(map(len, parts)) < 4096


def test_text_without_names_is_one_part() -> None:
    for specials in ([], [Special(b"<a>")]):
        assert list(Cuts(specials).parts(b"word " * 50_000)) == [b"word " * 50_000]


def test_names_that_overlap_all_along_are_counted_and_left_together() -> None:
    cutting = Cuts([Special(b"aa"), Special(b"a")])
    assert list(cutting.parts(b"a" * 50_000)) == [b"a" * 50_000]
    assert cutting.count(b"a" * 50_000) == 25_000

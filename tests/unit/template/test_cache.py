import pytest

from corral.core.errors import BadRequestError
from corral.template.cache import SourceCache


def test_source_is_made_once() -> None:
    made: list[str] = []
    cache = SourceCache(lambda source: made.append(source) or source.upper())  # type: ignore[func-returns-value]  # None, for `or`
    assert [cache.get(source) for source in ("a", "b", "a")] == ["A", "B", "A"]
    assert made == ["a", "b"]


def test_wrong_source_is_looked_at_once_too() -> None:
    made: list[str] = []

    def refuse(source: str) -> str:
        made.append(source)
        raise BadRequestError(f"{source} is wrong")

    cache = SourceCache(refuse)
    for _ in range(2):
        with pytest.raises(BadRequestError, match="a is wrong"):
            cache.get("a")
    assert made == ["a"]


def test_least_used_is_forgotten_first_and_what_is_too_long_at_once() -> None:
    made: list[str] = []

    def note(source: str) -> int:
        made.append(source)
        return len(source)

    cache = SourceCache(note, max_chars=10)
    for source in ("aaa", "bbb", "aaa", "ccc"):
        cache.get(source)
    made.clear()
    assert cache.get("aaa") == 3
    assert made == []
    cache.get("bbb")
    assert made == ["bbb"]
    assert cache.get("d" * 11) == 11
    assert cache.get("d" * 11) == 11
    assert made == ["bbb", "d" * 11, "d" * 11]

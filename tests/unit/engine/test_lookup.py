"""What an answer is guessed to say next: what followed where its last tokens came up before."""

from random import Random

import pytest

from corral.engine.llamacpp.worker.speculation.lookup import WIDTHS, Guess, Lookup


def guess(text: str, most: int = 4) -> tuple[str, int] | None:
    tokens = list(text.encode())
    lookup = Lookup()
    lookup.read(tokens)
    found = lookup.guess(tokens, most)
    return (bytes(found.tokens).decode(), found.shared) if found else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("a", None),
        ("ab", None),
        ("abcd", None),
        ("abcdefab", ("cdef", 2)),
        ("xabc1 xabd2 xabc3 yab", ("c3 y", 2)),
        ("xab1 yab2 zab3 yab", ("2 za", 4)),
        ("one two three four. one two thr", ("ee f", 8)),
        ("aaaa", ("aaaa", 3)),
        ("abcabc", ("abca", 3)),
    ],
    ids=["empty", "one", "pair", "new", "again", "latest", "longest", "long", "run", "period"],
)
def test_guess_follows_the_latest_of_the_longest_matches(text: str, expected: tuple[str, int] | None) -> None:
    assert guess(text) == expected


@pytest.mark.parametrize("most", [1, 2, 7])
def test_guess_has_as_many_tokens_as_asked_for_as_the_text_repeats_where_it_ends(most: int) -> None:
    found = guess("hello hell", most)
    assert found
    assert found[0] == "o hello "[:most]


def test_guess_ends_before_what_stands_for_an_image() -> None:
    lookup, tokens = Lookup(), [5, 6, 7, -1, -2, 5, 6]
    lookup.read(tokens)
    assert lookup.guess(tokens, 4) == Guess([7], 2)
    before = [5, 6, -1, -2, 5, 6]
    lookup = Lookup()
    lookup.read(before)
    assert lookup.guess(before, 4) is None


def slow_guess(tokens: list[int], most: int) -> Guess | None:
    """The same by looking everywhere, up to the eighth place."""
    best, shared = 0, 0
    places = [place for place in range(len(tokens) - 1, 1, -1) if tokens[place - 2 : place] == tokens[-2:]]
    for place in places[:8]:
        width = max((w for w in WIDTHS if w <= place and tokens[place - w : place] == tokens[-w:]), default=0)
        if width > shared:
            best, shared = place, width
    if not shared:
        return None
    found = list(tokens[best:])
    while len(found) < most:
        found.append(found[best - len(tokens)])
    return Guess(found[:most], shared)


@pytest.mark.parametrize("seed", range(60))
def test_guess_is_that_of_a_search_through_all_of_the_text_however_the_text_grew(seed: int) -> None:
    random = Random(seed)
    letters = random.choice([3, 12, 40])
    tokens, lookup = list[int](), Lookup()
    for _ in range(30):
        tokens += (
            tokens[begin : begin + random.randint(1, 20)]
            if tokens and random.random() < 0.4 and (begin := random.randrange(len(tokens))) >= 0
            else random.choices(range(letters), k=random.randint(1, 6))
        )
        lookup.read(tokens)
    most = random.randint(1, 8)
    assert lookup.guess(tokens, most) == slow_guess(tokens, most)


def said(lookup: Lookup, text: str, more: str, most: int = 6) -> tuple[str, int] | None:
    """The guess behind the text and what is said then, token by token."""
    tokens, found = list(text.encode()), None
    for letter in (None, *more.encode()):
        tokens += [] if letter is None else [letter]
        lookup.read(tokens)
        found = lookup.guess(tokens, most)
    return (bytes(found.tokens).decode(), found.shared) if found else None


TEXT = "the old cat sat on the mat. a dog ran|"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("the old c", ("at sat", 9)),
        ("the old cX", ("t sat ", 2)),
        ("the old cXt s", ("Xt on ", 5)),
        ("the old cXt sat", (" on th", 5)),
        ("the old cXt sXt on the m", ("Xt. X ", 16)),
        ("the old cXY", None),
        ("the old cXYat s", ("at on ", 4)),
        ("the old catX", ("sat on", 2)),
        ("the old cat sat on tXX", None),
    ],
    ids=["along", "changed", "behind-a-change", "changed-back", "changed-again", "lost", "found-again", "put-in", "twice"],
)
def test_answer_that_follows_a_text_goes_on_over_a_changed_token(more: str, expected: tuple[str, int] | None) -> None:
    assert said(Lookup(), TEXT, more) == expected


def test_long_prompt_is_read_a_part_at_a_time_and_known_in_the_end() -> None:
    tokens = [*range(5000), 10, 11]
    lookup = Lookup()
    lookup.read(tokens)
    assert lookup.guess(tokens, 2) == Guess([12, 13], 2)
    late = [*range(5000), 4000, 4001]
    lookup = Lookup()
    lookup.read(late)
    assert lookup.guess(late, 2) is None
    for _ in range(2):
        lookup.read(late)
    assert lookup.guess(late, 2) == Guess([4002, 4003], 2)

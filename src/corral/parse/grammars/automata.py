"""Whether a text meets regexes, and whether any text does. They are of whole strings, as patterns.py and text_formats.py write.

Python's own engine is no use here: pattern and text are both a stranger's, and together they may take it for ever; nor does it
tell what several patterns leave. Here all ways through a regex are followed at once, character by character, with a bound on
the work. Repetitions are counted, never written out.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from corral.parse.grammars.classes import EVERY, Parts, Set, common, has, parsed

_CHARS_READ: Final = 10  # of a regex, for one step


class UndecidedError(Exception):
    """It would take too much work to tell, or a regex knows characters by their properties."""


@dataclass(slots=True)
class Work:
    """What may be done yet to tell. A step is some microseconds."""

    steps: int

    def spend(self, steps: int) -> None:
        if self.steps < steps:
            self.steps = 0
            raise UndecidedError
        self.steps -= steps


def is_any_text(regexes: Sequence[str], min_length: int, max_length: int | None, work: Work) -> bool:
    """Whether some text meets all of them. Raises UndecidedError."""
    walk = _Walk(work)
    start = tuple(map(walk.start, regexes))
    known = {(start, 0)}
    ahead = deque(known)
    while ahead:
        states, length = ahead.popleft()
        ways = [walk.ways(state) for state in states]
        if length >= min_length and all(way.may_end for way in ways):
            return True
        if length == max_length:
            continue
        length = length + 1 if max_length is not None else min(length + 1, min_length)
        for edges in product(*(way.edges for way in ways)):
            work.spend(len(edges))
            chars = EVERY
            for one, _ in edges:
                chars = common(chars, one)
            reached = tuple(state for _, state in edges), length
            if chars and reached not in known:
                known.add(reached)
                ahead.append(reached)
    return False


def is_met(regexes: Sequence[str], text: str, work: Work) -> bool:
    """Whether the text meets all of them. Raises UndecidedError."""
    return all(_is_met(regex, text, work) for regex in regexes)


def _is_met(regex: str, text: str, work: Work) -> bool:
    walk = _Walk(work)
    states = {walk.start(regex)}
    for char in text:
        edges = [edge for state in states for edge in walk.ways(state).edges]
        work.spend(len(edges))
        states = {state for chars, state in edges if has(chars, ord(char))}
    return any(walk.ways(state).may_end for state in states)


@dataclass(slots=True, eq=False)
class _State:
    """What is left of a regex: a part, and what comes behind it. Without a part: nothing."""

    part: Parts | None = None
    rest: "_State | None" = None


@dataclass(frozen=True, slots=True)
class _Ways:
    may_end: bool
    edges: list[tuple[Set, _State]]  # which characters may come, and what is left behind each


class _Walk:
    """Ways through regexes. The same state is the same object."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._end = _State()
        self._states: dict[tuple[Parts, _State], _State] = {}
        self._ways: dict[_State, _Ways] = {}

    def start(self, regex: str) -> _State:
        self._work.spend(len(regex) // _CHARS_READ)
        part = parsed(regex)
        if part is None:
            raise UndecidedError
        return self._state(part, self._end)

    def ways(self, state: _State) -> _Ways:
        if state not in self._ways:
            self._ways[state] = self._found(state)
        return self._ways[state]

    def _found(self, state: _State) -> _Ways:
        may_end = False
        edges: dict[tuple[Set, _State], None] = {}
        ahead, known = [state], {state}
        while ahead:
            self._work.spend(1)
            now = ahead.pop()
            if now.part is None or now.rest is None:
                may_end = True
            elif now.part.chars is not None:
                edges[now.part.chars, now.rest] = None
            else:
                new = [one for one in self._opened(now.part, now.rest) if one not in known]
                known.update(new)
                ahead += new
        return _Ways(may_end, list(edges))

    def _opened(self, part: Parts, rest: _State) -> list[_State]:
        """What it comes down to before the next character."""
        self._work.spend(len(part.parts))
        match part.kind:
            case "or":
                return [self._state(one, rest) for one in part.parts]
            case "then":
                for one in reversed(part.parts):
                    rest = self._state(one, rest)
                return [rest]
            case _:
                found = [rest] if part.least == 0 else []
                if part.most != 0:
                    found.append(self._state(part.parts[0], self._state(part.once_less(), rest)))
                return found

    def _state(self, part: Parts, rest: _State) -> _State:
        return self._states.setdefault((part, rest), _State(part, rest))

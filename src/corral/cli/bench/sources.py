"""Where the clients of a loop get their requests: fresh ones, or turns of conversations that take up what was answered."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from corral.cli.bench.texts import drawing, question
from corral.cli.bench.workloads import Ask, Kind, Message, Shape


class Source(Protocol):
    async def take(self) -> Ask | None:
        """The next request, as soon as there is one; None when there are no more."""

    def answered(self, ask: Ask, text: str | None) -> None:
        """Told once of every request that was taken. None: it failed."""


class Fresh:
    """Requests that have nothing to do with each other, so many of them; None: without end."""

    def __init__(self, kind: Kind, shape: Shape, key: str, count: int | None) -> None:
        self._numbers: Iterator[int] = itertools.count() if count is None else iter(range(count))
        self._kind, self._shape, self._key = kind, shape, key

    async def take(self) -> Ask | None:
        number = next(self._numbers, None)
        return None if number is None else self._kind.draw(self._shape, self._key, number)

    def answered(self, ask: Ask, text: str | None) -> None:
        """Nothing follows from an answer."""


class Conversations:
    """Turns of many conversations in random order. A turn waits for the answer to the one before it, never for another's.

    A turn that failed leaves no trace: the conversation goes on as if it had not been sent.
    """

    def __init__(self, kind: Kind, shape: Shape, key: str) -> None:
        order = [number for number in range(shape.conversations) for _ in range(shape.turns)]
        drawing(key, "order").shuffle(order)
        self._left = order
        self._kind, self._shape, self._key = kind, shape, key
        self._said: dict[int, tuple[Message, ...]] = {}
        self._turns = dict.fromkeys(range(shape.conversations), 0)
        self._busy: set[int] = set()
        self._changed = asyncio.Event()

    async def take(self) -> Ask | None:
        while self._left:
            place = next((at for at, number in enumerate(self._left) if number not in self._busy), None)
            if place is not None:
                return self._begin(self._left.pop(place))
            self._changed.clear()
            await self._changed.wait()
        return None

    def _begin(self, number: int) -> Ask:
        self._busy.add(number)
        turn = self._turns[number]
        self._turns[number] += 1
        first = self._kind.draw(self._shape, self._key, number)
        said = self._said.get(number)
        if not said:
            return replace(first, conversation=number)
        text = question(drawing(self._key, number, turn))
        return replace(first, messages=(*said, Message("user", text)), group="later turns", conversation=number)

    def answered(self, ask: Ask, text: str | None) -> None:
        if text is not None:
            self._said[ask.conversation] = (*ask.messages, Message("assistant", text))
        self._busy.discard(ask.conversation)
        self._changed.set()

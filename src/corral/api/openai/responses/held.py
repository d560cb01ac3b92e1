"""Responses that are kept for a while: so that a conversation can go on from one, or a program can look at it again.

In memory alone: they end with the server. Each is kept for as long as it is used now and then, and all together have a bound:
the ones that were used longest ago go first. Responses of one conversation share what was said before, which counts once.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from corral.api.errors import FieldError
from corral.core.clock import Clock, SystemClock, Timer
from corral.core.errors import NotFoundError
from corral.core.units import NS_PER_S
from corral.wire.responses import InputItem

LIFE_S: Final = 3600.0
MAX_BYTES: Final = 64 << 20
_OWN_ID: Final = re.compile(r"[a-z]+_[0-9a-f]{32}")


class PreviousResponseError(FieldError):
    code = "previous_response_not_found"


@dataclass(slots=True)
class _Held:
    body: bytes  # of the response, as it was sent
    items: tuple[InputItem, ...]  # the whole conversation, the response's own included
    used_ns: int


class HeldResponses:
    """Ids that the server makes are as hard to guess as keys: whoever knows one may use it. Ids of other makes find nothing."""

    def __init__(self, *, clock: Clock | None = None, life_s: float = LIFE_S, max_bytes: int = MAX_BYTES) -> None:
        self._clock: Clock = clock or SystemClock()
        self._life_s = life_s
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the one that was used last is at the end
        self._items: dict[str, list[InputItem]] = {}  # several where a client has sent one again
        self._uses: Counter[int] = Counter()  # how many conversations have an item, by its id()
        self._sizes: dict[int, int] = {}
        self._size_bytes = 0
        self._timer: Timer | None = None

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def keep(self, response_id: str, body: bytes, items: Sequence[InputItem]) -> None:
        if len(body) + sum(len(msgspec.json.encode(item)) for item in items) > self._max_bytes:
            return  # it would drive out all others, and then itself
        held = _Held(body, tuple(items), self._clock.monotonic_ns())
        self._held[response_id] = held
        self._size_bytes += len(body)
        for item in held.items:
            self._use(item)
        while self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._held)))
        self._wait()

    def conversation(self, response_id: str) -> tuple[InputItem, ...]:
        """All that was said up to that response and in it. Raises PreviousResponseError."""
        if response_id not in self._held:
            text = f"Previous response with id '{response_id}' not found."
            raise PreviousResponseError("previous_response_id", f"{text} Responses are kept for an hour; send all items")
        return self._used(response_id).items

    def item(self, item_id: str, at: str) -> InputItem:
        """The item of that id in any conversation that is kept. Raises FieldError."""
        if item_id not in self._items:
            raise FieldError(
                f"{at}.id", f"Item with id '{item_id}' not found. Items are kept for an hour; send the item itself"
            )
        return self._items[item_id][-1]

    def body(self, response_id: str) -> bytes:
        """Raises NotFoundError."""
        self._check(response_id)
        return self._used(response_id).body

    def delete(self, response_id: str) -> None:
        """Raises NotFoundError."""
        self._check(response_id)
        self._drop(response_id)

    def _check(self, response_id: str) -> None:
        if response_id not in self._held:
            raise NotFoundError(f"Response with id '{response_id}' not found.")

    def _used(self, response_id: str) -> _Held:
        held = self._held[response_id]
        held.used_ns = self._clock.monotonic_ns()
        self._held.move_to_end(response_id)
        return held

    def _use(self, item: InputItem) -> None:
        key = id(item)
        self._uses[key] += 1
        if self._uses[key] == 1:
            self._sizes[key] = len(msgspec.json.encode(item))
            self._size_bytes += self._sizes[key]
            if item.id and _OWN_ID.fullmatch(item.id):
                self._items.setdefault(item.id, []).append(item)

    def _drop(self, response_id: str) -> None:
        held = self._held.pop(response_id)
        self._size_bytes -= len(held.body)
        for item in held.items:
            key = id(item)
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]
                self._size_bytes -= self._sizes.pop(key)
                if item.id in self._items:
                    self._items[item.id] = [one for one in self._items[item.id] if one is not item]
                    if not self._items[item.id]:
                        del self._items[item.id]

    def _wait(self) -> None:
        """For the end of the one that was used longest ago."""
        if self._timer is None and self._held:
            oldest = next(iter(self._held.values()))
            left_s = self._life_s - (self._clock.monotonic_ns() - oldest.used_ns) / NS_PER_S
            self._timer = self._clock.call_later(max(0.0, left_s), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_ns = self._clock.monotonic_ns()
        for response_id, held in list(self._held.items()):
            if now_ns - held.used_ns < self._life_s * NS_PER_S:
                break
            self._drop(response_id)
        self._wait()

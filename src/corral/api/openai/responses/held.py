"""Responses that are kept for a while: so that a conversation can go on from one, or a program can look at it again.

In memory alone: they end with the server. Each is kept for as long as it is used now and then, and all together have a bound:
the ones that were used longest ago go first. What counts is the memory that they take. Responses of one conversation share
what was said before, which counts once.
"""

import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from corral.api.errors import FieldError
from corral.core.clock import Clock, SystemClock, Timer
from corral.core.errors import NotFoundError
from corral.core.units import NS_PER_S
from corral.wire.responses import InputItem

LIFE_S: Final = 3600.0
MAX_BYTES: Final = 64 << 20
_RECORD_BYTES: Final = 700  # of each response, beside what it is made of: its record, and the tables that it is found by
_ENTRY_BYTES: Final = 250  # the same of each item
_OWN_ID: Final = re.compile(r"[a-z]+_[0-9a-f]{32}")


class PreviousResponseError(FieldError):
    code = "previous_response_not_found"


@dataclass(slots=True)
class _Held:
    body: bytes  # of the response, as it was sent
    items: tuple[InputItem, ...]  # the whole conversation, the response's own included
    used_ns: int

    @property
    def size_bytes(self) -> int:
        """Without the items themselves, which others may have, too."""
        return _RECORD_BYTES + sys.getsizeof(self.body) + sys.getsizeof(self.items)


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
        held = _Held(body, tuple(items), self._clock.monotonic_ns())
        sizes = {id(item): self._sizes.get(id(item)) or _size_bytes(item) for item in held.items}
        if held.size_bytes + sum(sizes.values()) > self._max_bytes:
            return  # it would drive out all others, and then itself
        self._held[response_id] = held
        self._size_bytes += held.size_bytes
        for item in held.items:
            self._use(item, sizes[id(item)])
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
        items = self._items.get(item_id)  # once: another thread may ask
        if not items:
            raise FieldError(
                f"{at}.id", f"Item with id '{item_id}' not found. Items are kept for an hour; send the item itself"
            )
        return items[-1]

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

    def _use(self, item: InputItem, size_bytes: int) -> None:
        key = id(item)
        self._uses[key] += 1
        if self._uses[key] == 1:
            self._sizes[key] = size_bytes
            self._size_bytes += size_bytes
            if item.id and _OWN_ID.fullmatch(item.id):
                self._items.setdefault(item.id, []).append(item)

    def _drop(self, response_id: str) -> None:
        held = self._held.pop(response_id)
        self._size_bytes -= held.size_bytes
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


def _size_bytes(item: InputItem) -> int:
    """The memory that an item takes, with all that it is made of."""
    size_bytes = _ENTRY_BYTES
    parts: list[Any] = [item]
    while parts:
        part = parts.pop()
        size_bytes += sys.getsizeof(part)
        if isinstance(part, msgspec.Struct):
            parts += [value for name in part.__struct_fields__ if (value := getattr(part, name)) is not None]
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += [*part.keys(), *part.values()]
    return size_bytes

"""A call that is being read: told in parts as it is written, where anybody wants them, and whole when it is complete."""

from collections.abc import Callable
from typing import Any, TypeAlias

from corral.parse.events import Call, CallPart
from corral.parse.source import NotACallError, Source
from corral.parse.values import Echo, json_text

Emit: TypeAlias = Callable[[Call | CallPart], None]


class OpenCall(Echo):
    """Hears the call's arguments, keeps them until the call's name is certain, and tells them from then on."""

    def __init__(self, source: Source, emit: Emit, *, has_parts: bool, accepts: Callable[[str], bool] = bool) -> None:
        self.call_id = ""  # one that comes behind the arguments is in the Call alone
        self._source = source
        self._emit = emit
        self._has_parts = has_parts
        self._accepts = accepts
        self._name = ""
        self._held: list[str] = []
        self._late = ""
        self._is_told = False

    def named(self, name: str) -> None:
        """What is heard from now on, and what has been heard, are the arguments of a call of this tool."""
        if self._accepts(name):
            self._name = name
            if self._held:
                self._tell("".join(self._held))
                self._held.clear()

    def forget(self) -> None:
        """What has been heard were no arguments."""
        self._held.clear()

    def sign(self, text: str) -> None:
        if self._has_parts:
            text, self._late = self._late + text, ""
            if self._name:
                self._tell(text)
            else:
                self._held.append(text)

    def text(self, text: str) -> None:
        if self._has_parts:
            self._hear(json_text(text)[1:-1])

    def value(self, value: Any) -> None:
        if self._has_parts:
            self._hear(json_text(value))

    def _hear(self, text: str) -> None:
        """What comes only now that the answer is over may be half a tag, or half a number: it counts if more comes."""
        if self._source.is_closed:
            self._late += text
        else:
            self.sign(text)

    def done(self, name: str, arguments: dict[str, Any]) -> None:
        """It is complete. Raises NotACallError where it has no name, or none that is accepted."""
        if not self._accepts(name):
            raise NotACallError
        if self._has_parts and not self._is_told:
            self._emit(CallPart(name, json_text(arguments), self.call_id))
        self._emit(Call(name, arguments, self._source.commit(), self.call_id))

    def _tell(self, text: str) -> None:
        if self._is_told:
            self._emit(CallPart("", text))
        else:
            self._is_told = True
            self._emit(CallPart(self._name, text, self.call_id))

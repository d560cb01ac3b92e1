"""From token bytes to text that may be shown: whole characters, and nothing that may turn out to be a stop string. Pure."""

import codecs
from collections.abc import Sequence


class TextStream:
    """One answer's text. The same bytes give the same text, however they are cut."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # may be the beginning of a stop string
        self.stopped_by = ""  # the stop string that came

    @property
    def is_stopped(self) -> bool:
        return bool(self.stopped_by)

    def feed(self, data: bytes) -> str:
        """What may be shown now. After a stop string nothing may; the stop string itself never."""
        text = self._decoder.decode(data)
        if not self._stops:
            return text
        if self.is_stopped:
            return ""
        self._held += text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:  # the one that was complete first: so the cuts do not matter
            _, at, self.stopped_by = min(found)
            shown, self._held = self._held[:at], ""
            return shown
        keep = self._kept()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def close(self) -> str:
        """What was held back and is no stop string after all. A character that was never finished is left out."""
        shown, self._held = self._held, ""
        return shown

    def _kept(self) -> int:
        """Characters at the end that may begin a stop string."""
        for size in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0

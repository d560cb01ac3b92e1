"""Times of day as answers carry them: `created_at` in UTC, times of files and expiries with this machine's offset."""

import time
from datetime import UTC, datetime
from typing import Final

from corral.core.units import NS_PER_S, rfc3339

FOREVER_NS: Final = (1 << 63) - 1  # the longest Go duration, 292 years: how a pinned model's expiry is shown


class UtcStamps:
    """`rfc3339_from_ns` at a tenth of its cost: the text of the current second is kept, as there is a stamp a token."""

    def __init__(self) -> None:
        self._second_ns = -NS_PER_S
        self._head = ""

    def text(self, unix_ns: int) -> str:
        ns = unix_ns - self._second_ns
        if not 0 <= ns < NS_PER_S:
            second, ns = divmod(unix_ns, NS_PER_S)
            self._second_ns = unix_ns - ns
            self._head = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        if ns % 10:
            return f"{self._head}.{ns:09d}Z"
        return f"{self._head}.{ns:09d}".rstrip("0") + "Z" if ns else self._head + "Z"

    def now(self) -> str:
        return self.text(time.time_ns())


def local_text(unix_ns: int) -> str:
    """The time with this machine's offset from UTC; `Z` where that is none."""
    second, ns = divmod(unix_ns, NS_PER_S)
    return rfc3339(datetime.fromtimestamp(second).astimezone(), ns=ns)


def expiry_text(unix_ns: int | None) -> str:
    """When a model goes; None, never, is shown as a time that lies 292 years ahead."""
    return local_text(time.time_ns() + FOREVER_NS if unix_ns is None else unix_ns)

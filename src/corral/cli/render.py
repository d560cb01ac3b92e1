"""Numbers, times and tables as Ollama's CLI writes them. Pure: values in, text out."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

_S: Final = 1_000_000_000
_DECIMAL: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_FOREVER_YEARS: Final = 20


def human_bytes(size_bytes: int) -> str:
    """Decimal units; one digit after the point below ten.

    >>> human_bytes(91_743_744), human_bytes(2_760_085), human_bytes(999), human_bytes(2_000)
    ('91 MB', '2.8 MB', '999 B', '2 KB')
    """
    for unit_bytes, unit in _DECIMAL:
        if size_bytes >= unit_bytes:
            value = size_bytes / unit_bytes
            return f"{value:.1f} {unit}" if value < 10 and not value.is_integer() else f"{int(value)} {unit}"
    return f"{size_bytes} B"


def human_duration(total_s: float) -> str:
    """A length of time in one unit.

    >>> human_duration(0.4), human_duration(1), human_duration(59), human_duration(70), human_duration(3600 * 30)
    ('Less than a second', '1 second', '59 seconds', 'About a minute', '30 hours')
    """
    seconds, minutes = int(total_s), int(total_s / 60)
    hours = int(total_s / 3600 + 0.5)
    steps = (
        (seconds < 1, "Less than a second"),
        (seconds == 1, "1 second"),
        (seconds < 60, f"{seconds} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 168} weeks"),
        (hours < 24 * 730, f"{hours // 720} months"),
    )
    return next((text for fits, text in steps if fits), f"{int(total_s / 3600) // 8760} years")


def human_time(at: datetime, now: datetime) -> str:
    """How long ago or ahead, seen from `now`; more than twenty years ahead is for ever."""
    ahead_s = (at - now).total_seconds()
    if ahead_s / 3600 / 8760 >= _FOREVER_YEARS + 1:
        return "Forever"
    return f"{human_duration(ahead_s)} from now" if ahead_s > 0 else f"{human_duration(-ahead_s)} ago"


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as a server writes it, up to nine digits after the second."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def go_duration(ns: int) -> str:
    """Nanoseconds as Go writes a Duration.

    >>> [go_duration(ns) for ns in (0, 900, 722_000, 7_820_133, 3_782_000, 61_500_000_000, 3_600_000_000_000)]
    ['0s', '900ns', '722µs', '7.820133ms', '3.782ms', '1m1.5s', '1h0m0s']
    """
    if abs(ns) < _S:
        for unit_ns, unit in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if abs(ns) >= unit_ns:
                return _decimal(ns, unit_ns) + unit
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    minutes, rest_ns = divmod(ns, 60 * _S)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest_ns, _S)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(abs(value), unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return ("-" if value < 0 else "") + str(whole) + (f".{fraction}" if fraction else "")


def go_number(value: float) -> str:
    """A number as Go's `%g` writes a float64: shortest digits, with an exponent from a million on.

    >>> go_number(1_375_744), go_number(512), go_number(1e-05), go_number(0.5), go_number(100_000)
    ('1.375744e+06', '512', '1e-05', '0.5', '100000')
    """
    value = float(value)
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{int(value)}" if value.is_integer() else repr(value)
    return next((text for digits in range(17) if float(text := f"{value:.{digits}e}") == value), repr(value))


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns four spaces apart, a heading above, no rules."""
    return columns([header, *body])


def columns(body: Sequence[Sequence[str]], *, indent: int = 0) -> str:
    """Rows whose cells stand under each other, four spaces apart; the last cell of a row is not padded."""
    count = max((len(row) for row in body), default=0)
    widths = [max((len(row[at]) for row in body if at < len(row)), default=0) for at in range(count)]
    lines = ("    ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in body)
    return "".join(f"{' ' * indent}{line}\n" for line in lines)

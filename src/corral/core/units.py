"""Durations and sizes as people and Go programs write them."""

import math
import re
from datetime import UTC, datetime

from corral.core.errors import BadRequestError

NS_PER_S = 1_000_000_000
FOREVER_S = math.inf
LONGEST_S = (2**63 - 1) / NS_PER_S  # the largest duration of Go, some 292 years

_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_SIZE = re.compile(r"(\d{1,18}\.?\d{0,9}|\.\d{1,9}) ?([kmgt]?)(?:i?b)?")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)$")


def duration_s(text: str) -> float:
    """Seconds in a Go duration such as `1h30m`, `-2m` or `0`.

    Raises BadRequestError with Go's own text otherwise.
    Source: go1.26 time/format.go, ParseDuration.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(body):
        found = _NUMBER.match(body, at)
        if not found:
            break
        number, unit = found.groups()
        if not unit:
            raise BadRequestError(f'time: missing unit in duration "{text}"')
        if unit not in _UNIT_S:
            raise BadRequestError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNIT_S[unit]
        at = found.end()
    if not body or at < len(body):
        raise BadRequestError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def keep_alive_s(value: float | str) -> float:
    """Seconds a model stays loaded after its last request; inf for any negative value, and beyond 292 years.

    A number is seconds; a string is a Go duration ("5m") or, unlike in Ollama, a plain number of seconds ("-1").
    Raises BadRequestError otherwise.
    Source: ollama@v0.32 api/types.go, Duration.UnmarshalJSON.
    """
    is_duration = isinstance(value, str) and not _PLAIN.match(value)
    try:
        seconds = duration_s(str(value)) if is_duration else float(value)
    except OverflowError:
        return FOREVER_S
    return seconds if 0 <= seconds <= LONGEST_S else FOREVER_S


def size_bytes(text: str) -> int:
    """Bytes in a size such as `512MB`, `1.5g` or `4096`; units are powers of 1024.

    Raises BadRequestError otherwise.
    >>> size_bytes("4GB"), size_bytes("1.5 MiB"), size_bytes("4096")
    (4294967296, 1572864, 4096)
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if not found:
        raise BadRequestError(f"invalid size {text!r}; write a number of bytes, or a size such as 4GB")
    return int(float(found[1]) * (1 << 10 * " kmgt".index(found[2] or " ")))


def rfc3339(at: datetime, *, ns: int | None = None) -> str:
    """The time as Go writes it: up to nine digits of a second without trailing zeros; `Z` for UTC, else the offset.

    `ns` gives the fraction where it is finer than the datetime's microseconds.
    """
    fraction = f"{at.microsecond * 1000 if ns is None else ns:09d}".rstrip("0")
    text = at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "")
    if at.utcoffset() is None or not at.utcoffset():
        return text + "Z"
    zone = at.strftime("%z")
    return f"{text}{zone[:3]}:{zone[3:5]}"


def rfc3339_from_ns(unix_ns: int) -> str:
    """UTC time of a count of nanoseconds since 1970, as `rfc3339` writes it."""
    seconds, ns = divmod(unix_ns, NS_PER_S)
    return rfc3339(datetime.fromtimestamp(seconds, UTC), ns=ns)

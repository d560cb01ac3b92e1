"""Durations and times are read and written as Go does it."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from corral.core.errors import BadRequestError
from corral.core.units import duration_s, keep_alive_s, rfc3339, rfc3339_from_ns, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("-2m", -120.0),
        ("+1s", 1.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("100ms", 0.1),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("7ns", 7e-9),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_duration_reads_what_go_reads(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("10", 'time: missing unit in duration "10"'),
        ("10 parrots", 'time: unknown unit " parrots" in duration "10 parrots"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("m5", 'time: invalid duration "m5"'),
    ],
)
def test_duration_complains_as_go_does(text: str, complaint: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        duration_s(text)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (0, 0.0),
        (600.5, 600.5),
        (-1, math.inf),
        (-0.001, math.inf),
        ("10m", 600.0),
        ("0", 0.0),
        ("-1m", math.inf),
        ("-1", math.inf),
        ("10", 10.0),
        (9_223_372_036, 9_223_372_036.0),
        (300_000_000_000, math.inf),
        pytest.param(10**400, math.inf, id="huge"),
        pytest.param("1" * 400, math.inf, id="huge text"),
        ("3000000h", math.inf),
    ],
)
def test_keep_alive_takes_numbers_durations_and_plain_seconds(value: float | str, seconds: float) -> None:
    assert keep_alive_s(value) == seconds


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 0, UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, timezone(timedelta(hours=2))), "2026-01-02T03:04:05.000001+02:00"),
        (datetime(2026, 1, 2, 3, 4, 5, 0, timezone(-timedelta(hours=3, minutes=30))), "2026-01-02T03:04:05-03:30"),
    ],
)
def test_times_are_written_without_trailing_zeros(at: datetime, text: str) -> None:
    assert rfc3339(at) == text


def test_a_time_in_nanoseconds_keeps_all_nine_digits() -> None:
    assert rfc3339_from_ns(1_767_323_045_123_456_789) == "2026-01-02T03:04:05.123456789Z"


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1k", 1024), ("512MB", 512 << 20), ("1.5 GiB", 3 << 29), (" 2g ", 2 << 30), ("1T", 1 << 40)],
)
def test_sizes_are_read_with_and_without_units(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 PB", "1,5g", "one", "9" * 40, "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="invalid size"):
        size_bytes(text)

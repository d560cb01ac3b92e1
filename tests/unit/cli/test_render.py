from datetime import UTC, datetime, timedelta

import pytest

from corral.cli.render import human_bytes, human_duration, human_time, parse_time, table

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(999, "999 B", id="bytes"),
        pytest.param(1_000, "1 KB", id="whole"),
        pytest.param(1_500, "1.5 KB", id="tenth"),
        pytest.param(46_223_764, "46 MB", id="two-digits"),
        pytest.param(2_760_085, "2.8 MB", id="rounded-tenth"),
        pytest.param(9_960_000, "10.0 MB", id="just-under-ten"),
        pytest.param(19_900_000_000, "19 GB", id="cut-not-rounded"),
        pytest.param(3_000_000_000_000, "3 TB", id="terabytes"),
    ],
)
def test_human_bytes_are_decimal(size_bytes: int, text: str) -> None:
    assert human_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (299, "4 minutes"),
        (59 * 60, "59 minutes"),
        (3600, "About an hour"),
        (1.6 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_duration_uses_one_unit(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_human_time_tells_past_from_future() -> None:
    assert human_time(NOW - timedelta(minutes=6), NOW) == "6 minutes ago"
    assert human_time(NOW + timedelta(seconds=299), NOW) == "4 minutes from now"
    assert human_time(NOW.replace(year=2318), NOW) == "Forever"


@pytest.mark.parametrize(
    "text", ["2026-11-21T12:00:00Z", "2026-11-21T14:00:00+02:00", "2026-11-21T12:00:00.000000999Z", "2026-11-21T12:00:00.0Z"]
)
def test_parse_time_reads_what_servers_write(text: str) -> None:
    assert parse_time(text) == NOW


def test_table_pads_by_four_and_leaves_no_space_at_the_end() -> None:
    assert table(["NAME", "ID"], []) == "NAME    ID\n"
    assert table(["NAME", "ID"], [["hello:latest", "1"], ["x", "22"]]) == (
        "NAME            ID\nhello:latest    1\nx               22\n"
    )

import re
import time

import pytest

from corral.api.stamps import UtcStamps, expiry_text, local_text
from corral.core.units import rfc3339_from_ns


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_795_253_746_704_119_106, "2026-11-21T09:35:46.704119106Z"),
        (1_795_253_746_220_637_500, "2026-11-21T09:35:46.2206375Z"),
        (1_795_253_746_000_000_000, "2026-11-21T09:35:46Z"),
        (1_795_253_746_100_000_000, "2026-11-21T09:35:46.1Z"),
    ],
)
def test_a_stamp_has_up_to_nine_digits_without_trailing_zeros(unix_ns: int, text: str) -> None:
    assert UtcStamps().text(unix_ns) == text == rfc3339_from_ns(unix_ns)


def test_the_kept_second_is_replaced_by_the_next_and_by_an_earlier_one() -> None:
    stamps = UtcStamps()
    times = [1_795_253_746_999_999_999, 1_795_253_747_000_000_000, 1_795_253_746_000_000_001]
    assert [stamps.text(at) for at in times] == [rfc3339_from_ns(at) for at in times]


def test_local_times_carry_this_machines_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_text(1_795_253_746_704_119_106) == "2026-11-21T10:35:46.704119106+01:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_never_is_292_years_away() -> None:
    years = int(expiry_text(None)[:4]) - time.gmtime().tm_year
    assert years in (292, 293)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", expiry_text(None))

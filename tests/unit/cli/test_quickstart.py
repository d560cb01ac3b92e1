import pytest

from corral.cli.quickstart import LogFilter

LISTENS = "15:19:28 info    corral 0.1.0 listens on http://127.0.0.1:11434 models=/m\n"
REQUEST = "15:19:28 info    request request_id=8c method=POST path=/api/chat status=200 duration_ms=12.98\n"
LOADED = "15:19:28 info    model loaded model=m size_bytes=1 load_ms=2\n"
WARNING = "15:19:28 warning damaged model model=m error=x\n"
ERROR = "15:19:28 error   start failed\n"
TRACE = ["Traceback (most recent call last):\n", "ValueError: x\n"]
LINES = [LISTENS, LOADED, REQUEST, WARNING, ERROR, *TRACE, LOADED, *TRACE]


@pytest.mark.parametrize(
    ("is_quiet", "want"),
    [
        pytest.param(True, [WARNING, ERROR, *TRACE], id="until-the-banner"),
        pytest.param(False, [REQUEST, WARNING, ERROR, *TRACE], id="after-it"),
    ],
)
def test_log_filter_keeps_the_terminal_calm(is_quiet: bool, want: list[str]) -> None:
    shown = LogFilter()
    shown.is_quiet = is_quiet
    assert [line for line in LINES if shown.takes(line)] == want


def test_log_filter_leaves_out_the_requests_of_its_own() -> None:
    shown = LogFilter()
    shown.own += ["/api/chat"]
    shown.is_quiet = False
    assert [shown.takes(REQUEST), shown.takes(REQUEST)] == [False, True]


def test_log_filter_shows_what_has_no_time() -> None:
    assert LogFilter().takes("Error: cannot listen on 127.0.0.1:11434\n")


def test_log_filter_shows_all_when_asked() -> None:
    assert [line for line in LINES if LogFilter(shows_all=True).takes(line)] == LINES

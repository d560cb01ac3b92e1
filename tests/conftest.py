"""What every test gets: a clean environment, a home of its own, and an alarm for calls that block the event loop."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import corral

_TESTS = str(Path(__file__).parent)
_CORRAL = str(Path(corral.__file__).parent)
if (root := str(Path(__file__).parents[1])) not in sys.path:  # `from tests.support.gguf_files import write_scripted`
    sys.path.append(root)


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the user's reaches a test, and no test reaches the user's home."""
    for name in list(os.environ):
        if name.startswith(("OLLAMA_", "CORRAL_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))


def _is_called_by_test() -> bool:
    """Whether the code that is running was called by a test itself, not by a coroutine of corral's or by the event loop."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        path, flags = frame.f_code.co_filename, frame.f_code.co_flags
        if path.startswith(_TESTS) and path != __file__:
            return True
        if path.startswith(_CORRAL) and flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return False
        frame = frame.f_back
    return False


@pytest.fixture(autouse=True)
def _blocking_call_alarm(request: pytest.FixtureRequest) -> Iterator[None]:
    """In a coroutine test, a coroutine of corral's that blocks the event loop (file reads, sleeps, locks) raises BlockingError.

    A look at a file's metadata is let through, and what the store reads of a model the first time it is asked for.
    """
    if request.node.get_closest_marker("asyncio") is None:
        yield
        return
    from blockbuster import BlockBuster

    alarm = BlockBuster("corral")
    for name in ("os.stat", "os.path.islink", "os.path.abspath", "os.getcwd", "os.access"):
        del alarm.functions[name]
    for function in alarm.functions.values():
        function.can_block_in("corral/store/store.py", "get")
        function.can_block_predicate = _or_called_by_test(function.can_block_predicate)
    alarm.activate()
    try:
        yield
    finally:
        alarm.deactivate()


def _or_called_by_test(allowed: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *args, **kwargs: allowed(*args, **kwargs) or _is_called_by_test()

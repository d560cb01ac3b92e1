"""How far a file has grown that another process writes and says nothing of."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from corral.core.aio import ThreadLimiter

_LOOK_EVERY_S: Final = 0.5


async def report_growth(path: Path, report: Callable[[int], None], threads: ThreadLimiter) -> NoReturn:
    """Reports the size of the file whenever it has grown, until it is cancelled."""
    reported = 0
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        size_bytes = await threads.run(_size_bytes, path)
        if size_bytes > reported:
            reported = size_bytes
            report(size_bytes)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # not begun yet
        return 0

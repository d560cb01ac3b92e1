"""Whether the machine is quiet enough to tell what suits it: asked while nothing is measured."""

import asyncio
from typing import Final

import psutil

_LOOK_S: Final = 0.5
_BUSY: Final = 0.15  # share of the machine's processor time


async def is_quiet() -> bool:
    """Looks for half a second at what other programs take of all cores."""
    psutil.cpu_percent()
    await asyncio.sleep(_LOOK_S)
    return float(psutil.cpu_percent()) < 100 * _BUSY

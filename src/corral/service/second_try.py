"""A worker that was dead before it had the job costs the client nothing: the job goes to a new one, once."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from corral.core.errors import EngineLostError
from corral.store import Model

log: Final = logging.getLogger(__name__)
T = TypeVar("T")


async def tried_twice(model: Model, work: Callable[[], Awaitable[T]]) -> T:
    """What the work gives, which takes a lease of its own each time: a scheduler that closes gives it no second one."""
    try:
        return await work()
    except EngineLostError:
        log.warning("worker was dead, trying another", extra={"model": model.name.short})
    return await work()

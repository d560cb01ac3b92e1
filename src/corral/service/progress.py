"""How far a layer or other work has come, as statuses: what changes, not too often, never less than before, and the end."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from corral.service.flights import Publish
from corral.service.requests import Status
from corral.wire.registry import Descriptor

REPORT_EVERY_S: Final = 0.06


def layer_reporter(doing: Literal["pulling", "pushing"], blob: Descriptor, publish: Publish) -> Callable[[int], None]:
    """Takes how many bytes of the blob are done, and publishes it."""
    return reporter(Status(status=f"{doing} {blob.digest[7:19]}", digest=blob.digest, total=blob.size), publish)


def reporter(status: Status, publish: Publish) -> Callable[[int], None]:
    """Takes how many bytes of `status.total` are done, and publishes the status with them."""
    now = asyncio.get_running_loop().time
    reported, due_s = -1, 0.0

    def report(completed: int) -> None:
        nonlocal reported, due_s
        if completed > reported and (completed >= status.total or now() >= due_s):
            reported, due_s = completed, now() + REPORT_EVERY_S
            publish(replace(status, completed=completed))

    return report

"""Media of jobs that come ahead of them in pieces, put together as they come. Worker side."""

import io
from typing import Final

from msgspec.structs import replace

from corral.core.types import Job
from corral.wire.link import Attach


class Attached:
    """What has come of media whose jobs have not."""

    def __init__(self) -> None:
        self._media: Final[dict[int, list[io.BytesIO]]] = {}

    def add(self, frame: Attach) -> None:
        """Pieces come in their order, and media in theirs."""
        media = self._media.setdefault(frame.job_id, [])
        if frame.number == len(media):
            media.append(io.BytesIO())
        media[frame.number].write(frame.data)

    def whole(self, job_id: int, job: Job) -> Job:
        """The job with its media, which are forgotten here."""
        media = self._media.pop(job_id, None)
        return replace(job, media=tuple(medium.getvalue() for medium in media)) if media else job

    def drop(self, job_id: int) -> None:
        self._media.pop(job_id, None)

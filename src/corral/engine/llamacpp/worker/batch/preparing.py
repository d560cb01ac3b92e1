"""Jobs that wait for their guides: a grammar is compiled while the engine's steps go on."""

import logging
from concurrent.futures import Future
from typing import Final, Protocol

from corral.core.errors import BadRequestError, CorralError
from corral.core.types import Job
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.wire.link import JobFailed

log: Final = logging.getLogger(__name__)


class Guides(Protocol):
    """Makes guides: grammars.py."""

    def guide(self, job: Job) -> Future[Guide]: ...
    def named(self, names: tuple[str, ...]) -> frozenset[int]: ...


class Preparing:
    def __init__(self, guides: Guides) -> None:
        self._guides = guides
        self._futures: dict[int, tuple[Generation, Future[Guide]]] = {}

    def __bool__(self) -> bool:
        return bool(self._futures)

    def add(self, generation: Generation) -> bool:
        """Sees to what the job says of its answer; false where nothing of that takes time."""
        job = generation.job
        if job.spelled:
            generation.spelled = self._guides.named(job.spelled)
        if job.thought is None and not job.grammars:
            return False
        self._futures[generation.job_id] = generation, self._guides.guide(job)
        return True

    def cancel(self, job_id: int) -> None:
        if found := self._futures.pop(job_id, None):
            found[1].cancel()

    @property
    def futures(self) -> list[Future[Guide]]:
        """What is waited for."""
        return [future for _, future in self._futures.values()]

    def take(self) -> tuple[list[Generation], list[JobFailed]]:
        """Who may join by now, and who cannot."""
        ready, failed = list[Generation](), list[JobFailed]()
        for job_id in [job_id for job_id, (_, future) in self._futures.items() if future.done()]:
            generation, future = self._futures.pop(job_id)
            error = future.exception() or _begun(generation, future.result())
            if error is None:
                ready.append(generation)
            else:
                failed.append(_failed(job_id, error))
        return ready, failed


def _begun(generation: Generation, guide: Guide) -> CorralError | None:
    """Gives the answer its guide."""
    try:
        generation.dictated.extend(guide.start())
    except CorralError as error:
        return error
    generation.thought_tokens = guide.thought_tokens
    generation.guide = None if guide.is_done else guide
    return None


def _failed(job_id: int, error: BaseException) -> JobFailed:
    if isinstance(error, CorralError):
        return JobFailed(job_id, str(error), is_asked_wrong=isinstance(error, BadRequestError))
    log.error("a grammar could not be compiled", exc_info=error)
    return JobFailed(job_id, f"the answer's grammar cannot be compiled: {error}")

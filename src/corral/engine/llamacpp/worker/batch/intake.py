"""Jobs on their way in: what they ask is checked, and their texts, images and grammars are read.

None of that makes a step wait: a short text is read at once, all else by threads, and the job goes on when that is done.
"""

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final, Protocol

from corral.core.errors import BadRequestError, ContextOverflowError, EngineError
from corral.core.options import adapter_scales
from corral.core.types import Job
from corral.engine.llamacpp.worker.batch.generation import Generation
from corral.engine.llamacpp.worker.batch.preparing import Guides, Preparing
from corral.engine.llamacpp.worker.batch.showing import Showing
from corral.engine.llamacpp.worker.texts import MOST_BYTES, Reads, TextTooLargeError
from corral.wire.link import Frame, JobFailed, Overflow

_LOOK_EVERY_S: Final = 0.02  # a batcher with nothing else to do asks its socket so often


class Words(Protocol):
    """The vocabulary, as far as reading prompts needs it."""

    size: int  # token ids are below it

    def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...
    def infill(self, before: str, after: str, *, add_special: bool) -> list[int] | None: ...
    def least_tokens(self, text: str) -> int: ...


class Intake:
    """Owns the jobs that cannot wait for a slot yet. `take` gives those that can, in the order in which they became ready."""

    def __init__(self, words: Words, guides: Guides, showing: Showing, texts: Reads, *, adapters: int) -> None:
        """`adapters`: so many the model has."""
        self._words = words
        self._showing = showing
        self._texts = texts
        self._adapters = adapters
        self._preparing = Preparing(guides)
        self._reading: dict[int, tuple[Job, Future[list[int]]]] = {}
        self._ready: list[Generation] = []

    @property
    def has_work(self) -> bool:
        return bool(self._ready or self._reading or self._preparing or self._showing.has_work)

    def submit(self, job_id: int, job: Job) -> Frame | None:
        """Takes a job; gives the frame that refuses it, where that is seen at once."""
        try:
            self._check(job)
        except BadRequestError as error:
            return JobFailed(job_id, str(error), is_asked_wrong=True)
        if job.media:
            return self._showing.submit(job_id, job)
        future = self._texts.read(len(job.prompt) + len(job.suffix), lambda: self._tokens(job))
        if future.done():
            return self._take_read(job_id, job, future)
        self._reading[job_id] = job, future
        return None

    def cancel(self, job_id: int) -> None:
        """What is being done for the job is left, as far as it can be."""
        if found := self._reading.pop(job_id, None):
            found[1].cancel()
        self._preparing.cancel(job_id)
        self._showing.drop(job_id)
        self._ready = [generation for generation in self._ready if generation.job_id != job_id]

    def take(self, *, waits: bool) -> tuple[list[Generation], list[Frame]]:
        """Who may join, and what there is to tell of those who cannot; with `waits` after a moment for others to get ready."""
        if waits and not self._ready:
            self._wait()
        frames = [frame for frame in (*self._take_texts(), *self._take_shown()) if frame]
        ready, failed = self._preparing.take()
        for frame in failed:
            self._showing.drop(frame.job_id)
        found, self._ready = [*self._ready, *ready], []
        return found, [*frames, *failed]

    def _wait(self) -> None:
        reading = [future for _, future in self._reading.values()]
        futures: list[Future[Any]] = [*reading, *self._preparing.futures]
        if futures:
            wait(futures, _LOOK_EVERY_S, FIRST_COMPLETED)

    def _check(self, job: Job) -> None:
        for token in job.prefix_tokens:
            if not 0 <= token < self._words.size:
                raise BadRequestError(f"the context has a token {token}, and the model has none of that number")
        adapter_scales(job.adapters, self._adapters)
        if job.media and len(job.prompt) > MOST_BYTES:
            raise TextTooLargeError(len(job.prompt))

    def _take_texts(self) -> list[Frame | None]:
        reading: Mapping[int, tuple[Job, Future[list[int]]]] = self._reading
        done = [job_id for job_id, (_, future) in reading.items() if future.done()]
        return [self._take_read(job_id, *self._reading.pop(job_id)) for job_id in done]

    def _take_shown(self) -> list[Frame | None]:
        return [each if isinstance(each, JobFailed) else self._enter(each) for each in self._showing.fetch()]

    def _take_read(self, job_id: int, job: Job, future: Future[list[int]]) -> Frame | None:
        try:
            own = future.result()
        except ContextOverflowError as error:
            return Overflow(job_id, error.prompt_tokens, error.num_ctx, error.is_least)
        except (BadRequestError, EngineError) as error:
            return JobFailed(job_id, str(error), is_asked_wrong=isinstance(error, BadRequestError))
        return self._enter(Generation(job_id, job, [*job.prefix_tokens, *own]))

    def _enter(self, generation: Generation) -> Frame | None:
        """Lets it wait for its turn, where it can have one."""
        job = generation.job
        if generation.prompt_tokens >= job.num_ctx:
            self._showing.drop(generation.job_id)
            return Overflow(generation.job_id, generation.prompt_tokens, job.num_ctx)
        if not generation.prompt_tokens:
            return JobFailed(generation.job_id, "the prompt has no tokens", is_asked_wrong=True)
        generation.scales = adapter_scales(job.adapters, self._adapters)
        if not self._preparing.add(generation):
            self._ready.append(generation)
        return None

    def _tokens(self, job: Job) -> list[int]:
        """What comes after the prefix. Raises BadRequestError, ContextOverflowError, EngineError."""
        try:
            tokens = self._tokenized(job)
        except TextTooLargeError:  # all that is known of its tokens is how many there are at least
            least = len(job.prefix_tokens) + self._words.least_tokens(job.prompt) + self._words.least_tokens(job.suffix)
            if least >= job.num_ctx:
                raise ContextOverflowError(least, job.num_ctx, is_least=True) from None
            raise
        if tokens is None:
            raise BadRequestError("the model has no tokens to ask for what goes before a suffix")
        return tokens

    def _tokenized(self, job: Job) -> list[int] | None:
        begins_text = not job.prefix_tokens
        if job.suffix:
            return self._words.infill(job.prompt, job.suffix, add_special=begins_text)
        return self._words.tokenize(job.prompt, add_special=begins_text)

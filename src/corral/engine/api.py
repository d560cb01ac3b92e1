"""The seam between Corral and whatever runs a model: the Protocols that an engine meets.

An engine takes a rendered prompt and gives back text in steps. It knows no templates, no dialects, no names.
It owns its own queueing of tokens, never of requests: the scheduler hands it at most `info.n_parallel` jobs at once, or where
it can displace running ones twice as many.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from corral.core.types import EmbedJob, EngineInfo, Job, LoadSpec, Step, Vectors

ProgressCallback = Callable[[float], None]


class Engine(Protocol):
    """A loaded model."""

    @property
    def info(self) -> EngineInfo: ...

    on_change: Callable[[], None] | None  # called whenever `info` has changed; its owner sets it

    @property
    def is_alive(self) -> bool:
        """False from the moment the worker is known to be gone; every later call raises EngineCrashedError."""
        ...

    def generate(self, job: Job) -> AbstractAsyncContextManager[AsyncIterator[Step]]:
        """The answer in steps, the last of which carries `finish`.

        Leaving the block, by any road, takes the job out of the batch within one engine step. Iterating raises
        ContextOverflowError before anything is computed, and EngineCrashedError when the worker dies: EngineLostError, which
        entering may raise too, where it was dead before it had the job.
        """
        ...

    def embed(self, job: EmbedJob) -> AbstractAsyncContextManager[AsyncIterator[Vectors]]:
        """The vectors of all texts, in order, some texts at a time; over when every text has had its vector.

        Leaving the block, by any road, ends the job within one engine step. Iterating raises ContextOverflowError for a text
        that is too long and may not be cut, BadRequestError for one without tokens, or where the job has a query and the model
        does not rank or the other way round, and EngineCrashedError.
        """
        ...

    async def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of the text, BOS added as `generate` adds it when `add_special`; names of special tokens are read as these
        when `parse_special`, else as plain text. Raises EngineError where it is not to be tokenized, and EngineCrashedError.
        """
        ...

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, special ones by their names; U+FFFD for what is no whole character.

        Raises BadRequestError for a number that is no token, EngineCrashedError.
        """
        ...

    async def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token, special ones by their names. Raises as `detokenize`."""
        ...

    def set_limit(self, limit_bytes: int) -> None:
        """From now on it grows to no more than so many bytes in all; what it has taken it keeps, but for its prefix cache."""
        ...

    async def aclose(self) -> None:
        """Ends the worker and gives its memory back. Running jobs fail with EngineCrashedError. Safe to call twice."""
        ...


class Launcher(Protocol):
    """Makes engines of one kind."""

    @property
    def gpu_total_bytes(self) -> int:
        """The memory of all GPUs that models can go to, 0 without one. Known once `devices` has answered; 0 until then."""
        ...

    async def launch(self, spec: LoadSpec, on_progress: ProgressCallback) -> Engine:
        """Loads the model. `on_progress` gets 0.0 to 1.0 while weights are read.

        Raises ModelLoadError with the loader's own words when it cannot, ServerStoppingError once the launcher is closed.
        Whatever is raised, no process is left behind.
        """
        ...

    async def devices(self) -> tuple[str, ...]:
        """What models can run on here, one line a device, for people to read."""
        ...

    async def aclose(self) -> None:
        """Ends what the launcher holds ready. Engines that it launched are closed by their owners."""
        ...

"""Vocabularies without their models: what tokenizing needs, in workers of their own.

A vocabulary is read in a fraction of a second where a model takes many, takes no place from a model in memory, and evicts none.
It has a worker of its own also where the model is loaded: a long text is tokenized for seconds, in which no answer would go on.
A few are kept, for as long as a model would be; the one that was not used for longest goes for another.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.aio import Background
from corral.core.clock import Clock, SystemClock, Timer
from corral.core.errors import CorralError, ModelLoadError, ServerStoppingError
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S
from corral.engine import Engine, Launcher
from corral.sched.queue import Line
from corral.store import Model

log: Final = logging.getLogger(__name__)
MOST_VOCABULARIES: Final = 2  # some 100 MB each


@dataclass(frozen=True, slots=True)
class LentVocabulary:
    """An engine that tokenizes, for the length of a block."""

    engine: Engine
    load_ns: int  # waited for it


class _Held:
    """One vocabulary: loading, then ready, until it is closed. `users` hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loading: asyncio.Task[None] | None = None
        self.ready: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        self.users = 0
        self.keep_alive_s = 0.0
        self.idle_since_ns = 0
        self.timer: Timer | None = None

    @property
    def is_usable(self) -> bool:
        if not self.ready.done():
            return True
        return self.ready.exception() is None and self.ready.result().is_alive

    def fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # nobody may be waiting any more

    def stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None


class Vocabularies:
    """Made once per server. `line` bounds how many are in use at once, to MOST_VOCABULARIES."""

    def __init__(self, launcher: Launcher, line: Line, settings: Settings, *, clock: Clock | None = None) -> None:
        self._launcher = launcher
        self._line = line
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._held: dict[Path, _Held] = {}
        self._open: set[_Held] = set()  # those too that nobody gets any more
        self._is_closing = False
        self._background = Background(lambda error: log.error("vocabulary task failed", exc_info=error))

    @asynccontextmanager
    async def lend(self, model: Model, *, keep_alive_s: float | None = None, client: str = "") -> AsyncIterator[LentVocabulary]:
        """The model's vocabulary, read if need be.

        Raises QueueFullError when too many wait, ModelLoadError when it cannot be read, ServerStoppingError.
        """
        began_ns = self._clock.monotonic_ns()
        async with self._line.place(client):
            if self._is_closing:
                raise ServerStoppingError
            held = self._find(model.model_path)
            held.users += 1
            held.keep_alive_s = self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s
            held.stop_timer()
            try:
                engine = await asyncio.shield(held.ready)
                yield LentVocabulary(engine, self._clock.monotonic_ns() - began_ns)
            finally:
                self._give_back(held)

    async def aclose(self) -> None:
        """Ends every worker. Safe to call twice."""
        self._is_closing = True
        await self._background.aclose()
        for held in list(self._open):
            await self._close(held)

    def _find(self, path: Path) -> _Held:
        """The file's vocabulary, ready or loading; its place is made among those that are kept."""
        found = self._held.get(path)
        if found and found.is_usable:
            return found
        if found:
            self._forget(found)
        idle = sorted((held for held in self._held.values() if not held.users), key=lambda held: held.idle_since_ns)
        for held in idle[: max(0, len(self._held) - MOST_VOCABULARIES + 1)]:
            self._forget(held)
        held = self._held[path] = _Held(path)
        self._open.add(held)
        held.loading = self._background.start(self._load(held), name=f"vocabulary {path.name}")
        return held

    async def _load(self, held: _Held) -> None:
        limit_s = self._settings.load_timeout_s
        spec = LoadSpec(model_path=str(held.path), n_ctx=0, n_parallel=MOST_VOCABULARIES, vocab_only=True)
        try:
            async with asyncio.timeout(None if limit_s == FOREVER_S else limit_s):
                held.ready.set_result(await self._launcher.launch(spec, lambda _share: None))
        except TimeoutError:
            held.fail(ModelLoadError(f"the vocabulary of {held.path} was not read in {limit_s:g} seconds"))
        except CorralError as error:
            held.fail(error)
        finally:
            held.fail(
                ServerStoppingError() if self._is_closing else ModelLoadError(f"cannot read the vocabulary of {held.path}")
            )

    def _give_back(self, held: _Held) -> None:
        held.users -= 1
        held.idle_since_ns = self._clock.monotonic_ns()
        if held.users or self._is_closing:
            return
        if self._held.get(held.path) is not held or not held.is_usable or held.keep_alive_s <= 0:
            self._forget(held)
        elif held.keep_alive_s != FOREVER_S:
            held.timer = self._clock.call_later(held.keep_alive_s, lambda: self._forget(held))

    def _forget(self, held: _Held) -> None:
        """Nobody gets it any more, and it is closed once nobody has it."""
        held.stop_timer()
        if self._held.get(held.path) is held:
            del self._held[held.path]
        if not held.users and not self._is_closing:
            self._background.start(self._close(held), name=f"close vocabulary {held.path.name}")

    async def _close(self, held: _Held) -> None:
        held.stop_timer()
        if held.loading and not held.loading.done():
            held.loading.cancel()
            await asyncio.wait([held.loading])
        held.fail(ServerStoppingError())  # where it was cancelled before it began
        if held.ready.exception() is None:
            await held.ready.result().aclose()
        self._open.discard(held)

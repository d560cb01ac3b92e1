"""A model in a worker that takes jobs: it generates, makes embeddings, or both by turns. Worker side."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from corral.core.types import EngineInfo
from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.batch.batcher import Batcher
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.cache.tiers import Tiers
from corral.engine.llamacpp.worker.embed.embedder import Embedder
from corral.engine.llamacpp.worker.media.attached import Attached
from corral.engine.llamacpp.worker.media.media import MediaReader
from corral.engine.llamacpp.worker.native.binding import Model, NativeLog
from corral.engine.llamacpp.worker.native.context import Context
from corral.engine.llamacpp.worker.native.devices import devices
from corral.engine.llamacpp.worker.native.embed_context import NativeEmbedContext
from corral.engine.llamacpp.worker.words import Calls
from corral.wire.link import Attach, Cancel, Embed, Frame, JobFailed, Loaded, Submit, Taken

_CACHE_STEP_BYTES: Final = 64 << 20  # the server hears of the cache when it has moved by more
_LEFTOVERS_S: Final = 0.05  # of an idle worker's time, waiting for the disk


@dataclass(frozen=True, slots=True)
class Generator:
    """What generates text, and its memory."""

    slots: SlotTable[Context]
    batcher: Batcher[Context]
    most: int  # jobs at once
    tiers: Tiers | None = None  # below KV memory


@dataclass(slots=True)
class LoadedModel:
    """`generator` is None for a model that only makes embeddings. `vram_bytes` says what has been taken of GPUs by now."""

    model: Model
    generator: Generator | None
    embedder: Embedder[NativeEmbedContext]
    media: MediaReader | None
    calls: Calls
    n_ctx: int
    n_parallel: int
    log: NativeLog
    vram_bytes: Callable[[], int]
    allowance: Allowance
    attached: Attached = field(default_factory=Attached)
    told: tuple[object, ...] = ()  # what `info` last depended on
    told_cache_bytes: int = 0
    owed_s: float = 0.0  # what generations have still to run before the embeddings' next step

    def info(self) -> EngineInfo:
        self.told, self.told_cache_bytes = self._state, self._cache_bytes
        vram = self.vram_bytes()
        return EngineInfo(
            n_ctx=self.n_ctx,
            n_ctx_train=self.model.n_ctx_train,
            n_parallel=self.n_parallel,
            size_bytes=max(self.log.buffer_bytes(), self.model.size_bytes, vram),
            vram_bytes=vram,
            can_shift=self.generator.slots.context.can_shift if self.generator else False,
            can_displace=self.generator is not None,
            devices=tuple(map(str, devices())),
            media_encoded=self.media.encoded if self.media else 0,
            cache_bytes=self._cache_bytes,
        )

    def limit(self, limit_bytes: int) -> None:
        """From now on it grows to no more than that; what is kept beside KV memory gives way at once."""
        self.allowance.limit_bytes = limit_bytes
        if self.generator and self.generator.tiers:
            self.generator.tiers.fit()

    @property
    def has_chores(self) -> bool:
        """There is something to do for idle time."""
        if self.generator is None:
            return False
        return self.generator.slots.chore is not None or self._has_leftovers

    def tidy(self) -> None:
        """Does one thing that is for idle time."""
        if not self.generator:
            return
        if self.generator.tiers and self._has_leftovers:  # of jobs that were cancelled
            self.generator.tiers.wait(_LEFTOVERS_S)
            self.generator.tiers.fit()
        self.generator.slots.tidy()

    def news(self) -> list[Frame]:
        """What has changed since it was last told, if enough has."""
        is_moved = abs(self._cache_bytes - self.told_cache_bytes) > _CACHE_STEP_BYTES
        return [Loaded(self.info())] if is_moved or self._state != self.told else []

    def close(self, within_s: float) -> None:
        """Has what is worth it outlive the worker, as far as there is time for it."""
        if self.generator:
            self.generator.slots.close(within_s)

    @property
    def has_work(self) -> bool:
        return self._generates or self.embedder.has_work or self.calls.has_work

    def take(self, frame: Attach | Submit | Embed | Cancel) -> Frame | None:
        """A job, more of one, or its end; gives what there is to tell of it at once."""
        match frame:
            case Attach():
                self.attached.add(frame)
                return None
            case Submit():
                job = self.attached.whole(frame.job_id, frame.job)
                if not self.generator:
                    return JobFailed(frame.job_id, "the model makes embeddings and cannot generate text", is_asked_wrong=True)
                return self.generator.batcher.submit(frame.job_id, job) or Taken(frame.job_id)
            case Embed():
                return Taken(frame.job_id) if self.embedder.submit(frame) else None
            case Cancel():
                self.attached.drop(frame.job_id)
                if self.generator:
                    self.generator.batcher.cancel(frame.job_id)
                self.embedder.cancel(frame.job_id)
                self.calls.cancel(frame.job_id)
                return None

    def step(self) -> list[Frame]:
        """One step of the generations or the embeddings, or of both. Where there are both, each has half of the time."""
        generates = self._generates
        frames: list[Frame] = []
        if self.calls.has_work:
            frames += self.calls.fetch(waits=not generates and not self.embedder.has_work)
        if self.generator and generates:
            began_s = time.monotonic()
            frames += self.generator.batcher.step()
            self.owed_s -= time.monotonic() - began_s
        if self.embedder.has_work and (not generates or self.owed_s <= 0):
            began_s = time.monotonic()
            frames += self.embedder.step(is_shared=generates)
            self.owed_s = time.monotonic() - began_s
        return frames + self.news()

    @property
    def _has_leftovers(self) -> bool:
        return bool(self.generator and self.generator.tiers and self.generator.tiers.has_leftovers)

    @property
    def _cache_bytes(self) -> int:
        return self.generator.tiers.size_bytes if self.generator and self.generator.tiers else 0

    @property
    def _generates(self) -> bool:
        return self.generator is not None and self.generator.batcher.has_work

    @property
    def _state(self) -> tuple[object, ...]:
        """What `info` changes with: its contexts' memory, and what has been encoded."""
        encoded = self.media.encoded if self.media else 0
        return self.generator and self.generator.slots.context, self.embedder.context, encoded

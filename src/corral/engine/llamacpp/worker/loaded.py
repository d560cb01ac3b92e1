"""A model in a worker that takes jobs: it generates, makes embeddings, or both by turns. Worker side."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from corral.core.types import EngineInfo
from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.batch.batcher import Batcher
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.embed.embedder import Embedder
from corral.engine.llamacpp.worker.media.media import MediaReader
from corral.engine.llamacpp.worker.native.binding import Model, NativeLog
from corral.engine.llamacpp.worker.native.context import Context
from corral.engine.llamacpp.worker.native.devices import devices
from corral.engine.llamacpp.worker.native.embed_context import NativeEmbedContext
from corral.engine.llamacpp.worker.words import Calls
from corral.wire.link import Cancel, Embed, Frame, JobFailed, Loaded, Submit, Taken


@dataclass(frozen=True, slots=True)
class Generator:
    """What generates text, and its memory."""

    slots: SlotTable[Context]
    batcher: Batcher[Context]
    most: int  # jobs at once


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
    told: tuple[object, ...] = ()  # what `info` last depended on
    owed_s: float = 0.0  # what generations have still to run before the embeddings' next step

    def info(self) -> EngineInfo:
        self.told = self._state
        vram = self.vram_bytes()
        return EngineInfo(
            n_ctx=self.n_ctx,
            n_ctx_train=self.model.n_ctx_train,
            n_parallel=self.n_parallel,
            size_bytes=max(self.log.buffer_bytes(), self.model.size_bytes, vram),
            vram_bytes=vram,
            can_shift=self.generator.slots.context.can_shift if self.generator else False,
            devices=tuple(map(str, devices())),
            media_encoded=self.media.encoded if self.media else 0,
        )

    @property
    def has_work(self) -> bool:
        return self._generates or self.embedder.has_work or self.calls.has_work

    def take(self, frame: Submit | Embed | Cancel) -> Frame | None:
        """A job, more of one, or its end; gives what there is to tell of it at once."""
        match frame:
            case Submit():
                if not self.generator:
                    return JobFailed(frame.job_id, "the model makes embeddings and cannot generate text", is_asked_wrong=True)
                return self.generator.batcher.submit(frame.job_id, frame.job) or Taken(frame.job_id)
            case Embed():
                return Taken(frame.job_id) if self.embedder.submit(frame) else None
            case Cancel():
                if self.generator:
                    self.generator.batcher.cancel(frame.job_id)
                self.embedder.cancel(frame.job_id)
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
        if self._state != self.told:
            frames.append(Loaded(self.info()))
        return frames

    @property
    def _generates(self) -> bool:
        return self.generator is not None and self.generator.batcher.has_work

    @property
    def _state(self) -> tuple[object, ...]:
        """What `info` changes with: its contexts' memory, and what has been encoded."""
        encoded = self.media.encoded if self.media else 0
        return self.generator and self.generator.slots.context, self.embedder.context, encoded

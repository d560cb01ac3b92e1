"""Making the model files that a new model needs and that were not uploaded as they are: joined, converted, quantized.

What is made lies in a scratch folder of the store until it is kept, checked and named by its digest; the folder goes when the
work ends, however it ends, and what a killed server left goes with the next one.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import BadRequestError, EngineError
from corral.engine import QUANTIZATIONS, Quantization, Workshop
from corral.registry import Disk
from corral.service.create_sources import AdapterSource
from corral.service.create_staging import Staged, stage_adapter, stage_model
from corral.service.flights import Publish
from corral.service.progress import reporter
from corral.service.requests import Status
from corral.store import CREATING, GgufError, GgufInfo, Shard, Store, digest_of, merge_shards, read_info, store_errors
from corral.wire.registry import Descriptor

_HASH_STEP_BYTES: Final = 8 << 20
_HEAD_BYTES: Final = 16 << 20  # of a GGUF beside its weights, at most in practice
_SPARE: Final = 1.15  # mixtures keep some tensors at more bits
_NO_DIGEST: Final = "0" * 19  # what Ollama gives as digest of what has none yet


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF that is to be a layer. `digest`: "" where it is not known yet."""

    path: Path
    info: GgufInfo
    digest: str = ""
    is_stored: bool = False  # else it lies in the scratch folder


class Making:
    """The work for one model. `open` gives one; it may be used until the block ends."""

    def __init__(self, store: Store, workshop: Workshop, disk: Disk, publish: Publish, open_files: AsyncExitStack) -> None:
        self._store = store
        self._workshop = workshop
        self._disk = disk
        self._publish = publish
        self._open = open_files
        self._scratch: Path | None = None
        self._count = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store, workshop: Workshop, disk: Disk, publish: Publish) -> AsyncIterator["Making"]:
        async with AsyncExitStack() as open_files:
            yield cls(store, workshop, disk, publish, open_files)

    async def merged(self, shards: tuple[Shard, ...]) -> Weights:
        """The shards as one file. Raises BadRequestError where they do not fit together, StoreError."""
        total = sum([await self._disk.reading.run(_size_bytes, shard.path) for shard in shards])
        target = await self._place(total)
        report = self._reporter(Status(status="merging split GGUF", total=total))
        checksum = await self._stepped(shards, target, report)
        return Weights(*await self._checked(target), digest_of(checksum.hexdigest()))

    async def converted(self, files: Mapping[str, Path], name: str, to: Quantization) -> Weights:
        """The Hugging Face model as a GGUF of a float type. Raises BadRequestError, EngineError, StoreError."""
        self._publish(Status(status="converting model"))
        staged = await self._staged(stage_model, files, name)
        if staged.has_vision:
            self._publish(
                Status(status="leaving out the model's vision part; its mmproj GGUF can be given with a GGUF of the text")
            )
        expected = int(staged.parameter_count * to.bits / 8)
        target = await self._place(expected + _HEAD_BYTES)
        report = self._reporter(Status(status="converting model", total=expected))
        await self._workshop.convert(staged.folder, target, to=to, on_progress=report)
        report(expected)
        return Weights(*await self._checked(target))

    async def quantized(self, weights: Weights, to: Quantization) -> Weights:
        """The same model with weights of another type."""
        was = weights.info.file_type
        total = await self._disk.reading.run(_size_bytes, weights.path)
        target = await self._place(_HEAD_BYTES + int(weights.info.parameter_count * to.bits / 8 * _SPARE))
        if was in QUANTIZATIONS and not QUANTIZATIONS[was].is_float and not to.is_float:
            self._publish(Status(status=f"warning: {was} weights are quantized already; from F16 the model would be better"))
        work = f"quantizing {was} model to {to.name}"
        report = self._reporter(Status(status=work, digest=_NO_DIGEST, kind="quantize", total=total))
        report(0)
        await self._workshop.quantize(weights.path, target, to, on_progress=report)
        report(total)
        return Weights(*await self._checked(target))

    async def adapter(self, source: AdapterSource, base: Weights) -> Weights:
        if source.gguf:
            return Weights(source.gguf.path, source.gguf.info, source.gguf.digest, is_stored=True)
        self._publish(Status(status="converting adapter"))
        staged = await self._staged(stage_adapter, source.folder or {}, "adapter")
        target = await self._place(_HEAD_BYTES + 4 * staged.parameter_count)
        await self._workshop.convert_adapter(staged.folder, base.path, target)
        return Weights(*await self._checked(target))

    async def kept(self, weights: Weights, media_type: str) -> tuple[Descriptor, bool]:
        """The file as a layer of the store, and whether no model had it before. Raises StoreError."""
        digest = weights.digest or await self._digest(weights.path)
        is_new = not await self._disk.reading.run(self._store.is_used, digest)
        if not weights.is_stored:
            return await self._disk.writing.run(self._store.import_file, weights.path, digest, media_type), is_new
        size_bytes = await self._disk.reading.run(_size_bytes, weights.path)
        await self._disk.writing.run(self._store.adopt, digest)
        return Descriptor(media_type=media_type, digest=digest, size=size_bytes), is_new

    async def _place(self, size_bytes: int) -> Path:
        """A name for a file of about that size that is to be made. Raises StoreError where there is no room for it."""
        if self._scratch is None:
            self._scratch = await self._open.enter_async_context(self._disk.scratch(self._store.root / CREATING))
        await self._disk.need(size_bytes, self._scratch)
        self._count += 1
        return self._scratch / f"{self._count}.gguf"

    async def _staged(
        self, stage: Callable[[Mapping[str, Path], Path], Staged], files: Mapping[str, Path], name: str
    ) -> Staged:
        """`name` is what a converter calls a model that does not say its name itself."""
        folder = (await self._place(0)).with_suffix("")
        with store_errors(folder):
            await self._disk.writing.run(folder.mkdir)
        staged = await self._disk.writing.run(stage, files, folder / name)
        if staged.left_out:
            self._publish(Status(status=f"leaving out {', '.join(staged.left_out)}: nothing in it is needed"))
        return staged

    async def _stepped(self, shards: tuple[Shard, ...], target: Path, report: Callable[[int], None]) -> "hashlib._Hash":
        """Joins the shards in steps, between which it can be cancelled."""
        steps = merge_shards(shards, target)
        checksum = hashlib.sha256()
        try:
            with store_errors(target):
                while step := await self._disk.writing.run(next, steps, None):
                    checksum = step
                    report(await self._disk.reading.run(_size_bytes, target))
        except GgufError as exc:
            raise BadRequestError(str(exc)) from exc
        finally:
            await self._disk.writing.run(steps.close)  # in the thread that runs the steps, after the last of them
        return checksum

    async def _checked(self, path: Path) -> tuple[Path, GgufInfo]:
        """The file and what it says of itself: what was made must be whole."""
        try:
            return path, await self._disk.reading.run(read_info, path)
        except (GgufError, FileNotFoundError) as exc:
            raise EngineError(f"what was made is not a model: {exc}") from exc

    async def _digest(self, path: Path) -> str:
        checksum, at = hashlib.sha256(), 0
        while count := await self._disk.hash_range(path, checksum, at, _HASH_STEP_BYTES):
            at += count
        return digest_of(checksum.hexdigest())

    def _reporter(self, status: Status) -> Callable[[int], None]:
        """Publishes how much of `status.total` is done, which is never said to be more than all."""
        report = reporter(status, self._publish)
        return lambda completed: report(min(completed, status.total))


def _size_bytes(path: Path) -> int:
    return path.stat().st_size

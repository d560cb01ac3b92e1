"""Loading a model in a worker: from a LoadSpec to something that takes jobs, sized for this machine. Worker side."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from corral.core.errors import EngineError, ModelLoadError
from corral.core.machine_memory import available_bytes
from corral.core.types import Job, LoadSpec
from corral.engine.footprint import COMPUTE_BYTES, GPU_COMPUTE_BYTES, GPU_SHARE, padded_context
from corral.engine.llamacpp.worker.allowance import Allowance
from corral.engine.llamacpp.worker.batch.batcher import Batcher
from corral.engine.llamacpp.worker.batch.memory import KvMemory
from corral.engine.llamacpp.worker.batch.showing import Showing
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.batch.threads import ThreadCount
from corral.engine.llamacpp.worker.embed.embedder import Embedder
from corral.engine.llamacpp.worker.embed.reading import Reading
from corral.engine.llamacpp.worker.grammar.grammars import Grammars
from corral.engine.llamacpp.worker.grammar.spelling import Spelling
from corral.engine.llamacpp.worker.loaded import Generator, LoadedModel
from corral.engine.llamacpp.worker.media.media import MediaReader
from corral.engine.llamacpp.worker.native.binding import KV_TYPES, Model, NativeLog
from corral.engine.llamacpp.worker.native.context import Context, ContextSettings
from corral.engine.llamacpp.worker.native.devices import Device, devices
from corral.engine.llamacpp.worker.native.embed_context import RANKS, NativeEmbedContext, reading
from corral.engine.llamacpp.worker.native.sampling import Sampler
from corral.engine.llamacpp.worker.prefixes import make_tiers
from corral.engine.llamacpp.worker.room import KvRoom
from corral.engine.llamacpp.worker.texts import Texts
from corral.engine.llamacpp.worker.words import Calls, ranking

if TYPE_CHECKING:
    from corral.engine.llamacpp.worker.native.projector import Projector

_TINY_BYTES: Final = 16 << 20
_WHOLE_IMAGE: Final = 512  # tokens of a batch, at least, where those of an image are computed together
_FIRST_SEQUENCES: Final = 2  # room for one conversation and the next, to be quick; it grows when more is wanted
_FIRST_CELLS: Final = 1024
_KV_SHARE: Final = 0.5  # of the free memory may go to KV cells
_NAME_BEFORE: Final = re.compile(r"^(?:\w+: |error loading model: )+")
_MOST_THREADS: Final = 512  # GGML_MAX_N_THREADS


def load(spec: LoadSpec, log: NativeLog, on_progress: Callable[[float], None]) -> LoadedModel:
    """Raises ModelLoadError in llama.cpp's words where it cannot be done."""
    path = Path(spec.model_path)
    if not path.is_file():
        raise ModelLoadError(f"the model's file is not there: {path}")
    projector = _projector_path(spec)
    projector_bytes = projector.stat().st_size if projector else 0
    vram_before = _vram_free(devices())
    log.complaints = []
    try:
        model = Model(
            spec.model_path,
            gpu_layers=_gpu_layers(spec, path.stat().st_size, beside_bytes=projector_bytes),
            main_gpu=spec.main_gpu,
            use_mmap=spec.use_mmap,
            on_progress=on_progress,
        )
        for adapter in spec.adapter_paths:
            model.add_adapter(adapter)
        return _with_context(model, spec, log, vram_before, projector)
    except ModelLoadError as error:
        raise ModelLoadError(f"cannot load {path}: {'; '.join(_reasons(log.complaints)) or error}") from error


def _projector_path(spec: LoadSpec) -> Path | None:
    if len(spec.projector_paths) > 1:
        raise ModelLoadError(
            f"the model has {len(spec.projector_paths)} projectors and can use one; create it with one of them"
        )
    paths = [Path(path) for path in spec.projector_paths]
    if missing := [path for path in paths if not path.is_file()]:
        raise ModelLoadError(f"the projector's file is not there: {missing[0]}")
    return paths[0] if paths else None


def _with_context(model: Model, spec: LoadSpec, log: NativeLog, vram_before: int, projector: Path | None) -> LoadedModel:
    if spec.kv_cache_type not in KV_TYPES:
        raise ModelLoadError(f"unknown KV cache type {spec.kv_cache_type!r}; use one of {', '.join(KV_TYPES)}")
    n_ctx = padded_context(spec.n_ctx)
    threads = _threads(spec.num_thread, spec.most_threads, model.size_bytes)
    num_batch, media = spec.num_batch, None
    if projector and model.pooling is None:
        encoder = _encoder(projector, model, spec, log, threads.now)
        num_batch = num_batch if encoder.is_causal else max(num_batch, _WHOLE_IMAGE)
        media = MediaReader(encoder)
    settings = ContextSettings(
        num_batch=max(1, min(num_batch, n_ctx)),
        threads=threads,
        flash_attention=spec.flash_attention,
        kv_type=spec.kv_cache_type,
        is_unified=spec.kv_unified,
    )
    texts = Texts()
    allowance = Allowance(spec.limit_bytes, taken_bytes=lambda: max(log.buffer_bytes(), model.size_bytes))
    generator = _generator(model, spec, settings, log, n_ctx, allowance, media, texts)
    embedder = _embedder(model, settings, log, n_ctx, allowance, texts)
    if generator is None:
        try:
            embedder.grow(1)
        except EngineError as exc:
            raise ModelLoadError(str(exc)) from exc
    return LoadedModel(
        model=model,
        generator=generator,
        embedder=embedder,
        media=media,
        calls=Calls(model.vocabulary, texts),
        n_ctx=n_ctx,
        n_parallel=generator.most if generator else spec.n_parallel,
        log=log,
        vram_bytes=lambda: max(0, vram_before - _vram_free(devices())),
        allowance=allowance,
    )


def _generator(
    model: Model,
    spec: LoadSpec,
    settings: ContextSettings,
    log: NativeLog,
    n_ctx: int,
    allowance: Allowance,
    media: MediaReader | None,
    texts: Texts,
) -> Generator | None:
    """None for a model that makes embeddings, by its own word or because it keeps no sequences."""
    if model.pooling is not None:
        return None

    def make_context(sequences: int, cells: int) -> Context:
        return Context(model, settings, sequences=sequences, cells=cells)

    def make_sampler(job: Job) -> Sampler:
        return Sampler(job.sampling, vocabulary=model.vocabulary, num_ctx=job.num_ctx)

    cell_bytes = model.kv_bytes_per_token(spec.kv_cache_type)

    tiers = make_tiers(model, spec, allowance)

    room = KvRoom(cell_bytes, allowance, lambda: _kv_memory_free(spec), tiers, share_ram=not _is_on_gpu(spec))
    most = _most_sequences(spec, int(cell_bytes * n_ctx), max(model.size_bytes, log.buffer_bytes()))
    try:
        memory = KvMemory(
            make_context,
            sequences=_FIRST_SEQUENCES,
            cells=_FIRST_CELLS,
            most_sequences=most,
            most_cells=n_ctx,
            allows=room.could_have,
            clears=room.clear,
        )
    except ModelLoadError:
        if reading(model, log).keeps:
            raise
        return None
    slots = SlotTable(memory, can_drop=not model.keeps_state, below=tiers)
    if tiers:
        tiers.is_long = lambda: slots.context.is_long
    guides = Grammars(Spelling(model.vocabulary))
    batcher = Batcher(
        slots,
        model.vocabulary,
        make_sampler,
        guides,
        most=most,
        num_batch=settings.num_batch,
        adapters=len(model.scales),
        showing=Showing(media),
        texts=texts,
    )
    return Generator(slots, batcher, most, tiers)


def _encoder(path: Path, model: Model, spec: LoadSpec, log: NativeLog, threads: int) -> "Projector":
    from corral.engine.llamacpp.worker.native.projector import Projector  # late: its library is for models that see or hear

    is_on_gpu = spec.num_gpu != 0 and any(device.is_gpu for device in devices())
    return Projector(str(path), model, log, threads=threads, is_on_gpu=is_on_gpu, flash_attention=spec.flash_attention)


def _embedder(
    model: Model, settings: ContextSettings, log: NativeLog, n_ctx: int, allowance: Allowance, texts: Texts
) -> Embedder[NativeEmbedContext]:
    """A model with learned positions has none beyond those that it was trained with: that is the most of a text."""
    how: Reading | None = None

    def make_context(room: int) -> NativeEmbedContext:
        nonlocal how
        how = how or reading(model, log)
        return NativeEmbedContext(model, settings, how, log, room=room, allowance=allowance)

    most = min(n_ctx, model.n_ctx_train or n_ctx)
    ranks = ranking(model) if model.pooling == RANKS else None
    return Embedder(model.vocabulary, make_context, most=most, ranking=ranks, texts=texts)


def _threads(asked: int, most: int, weights_bytes: int) -> ThreadCount:
    """As many as were asked for, else `most`, else one a core; but for what was asked for, fewer while others want the cores.

    Only physical cores that this process may use count: a second thread on one core makes the others wait for it. A model so
    small that two threads would wait for each other longer than they compute gets one.
    """
    if asked > 0:
        return ThreadCount(min(asked, _MOST_THREADS), is_fixed=True)
    if most > 0:
        return ThreadCount(min(most, _MOST_THREADS))
    if weights_bytes < _TINY_BYTES:
        return ThreadCount(1)
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return ThreadCount(max(1, min(physical, allowed, _MOST_THREADS)))


def _vram_free(found: list[Device]) -> int:
    return sum(device.free_bytes for device in found if device.is_gpu)


def _kv_memory_free(spec: LoadSpec) -> int:
    """Of the memory where the cells are."""
    return _vram_free(devices()) if _is_on_gpu(spec) else available_bytes()


def _is_on_gpu(spec: LoadSpec) -> bool:
    return spec.num_gpu != 0 and any(device.is_gpu for device in devices())


def _most_sequences(spec: LoadSpec, sequence_bytes: int, weights_bytes: int) -> int:
    most_bytes = int(_kv_memory_free(spec) * _KV_SHARE)
    if spec.limit_bytes:
        most_bytes = min(most_bytes, spec.limit_bytes - weights_bytes - COMPUTE_BYTES)
    return max(1, min(spec.n_parallel, most_bytes // max(1, sequence_bytes)))


def _gpu_layers(spec: LoadSpec, file_bytes: int, *, beside_bytes: int) -> int:
    """Layers to put on GPUs: as asked, or as many as fit by the size of the file, with so many bytes beside it."""
    free = _vram_free(devices())
    if spec.num_gpu >= 0 or not free:
        return max(spec.num_gpu, 0)
    share = (free * GPU_SHARE - GPU_COMPUTE_BYTES - beside_bytes) / max(1, file_bytes)
    if share >= 1:
        return -1
    return max(0, int(share * Model.count_layers(spec.model_path)))


def _reasons(complaints: list[str]) -> list[str]:
    """llama.cpp's complaints without the names of its functions, each once."""
    seen: dict[str, None] = {}
    for line in complaints:
        text = _NAME_BEFORE.sub("", line.strip())
        if text and not text.startswith(("failed to load model", "exiting", "end")):
            seen[text] = None
    return list(seen)[-3:]

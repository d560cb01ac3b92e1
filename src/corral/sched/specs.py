"""How a model is to be loaded for a request: what the request and the Modelfile ask for, over what the operator set. Pure."""

from typing import Final

import msgspec

from corral.core.options import Options
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.engine import padded_context
from corral.sched.placement import DEFAULT_CONTEXT, DEFAULT_PARALLEL, LEAST_CONTEXT_WITH_IMAGES
from corral.store import Model

_DEFAULT_BATCH: Final = 512
_DEFAULT_KV_TYPE: Final = "f16"


def untuned_spec(model: Model, options: Options, settings: Settings) -> LoadSpec:
    """As it is wherever nothing was measured for the model."""
    trained = model.gguf.context_length or DEFAULT_CONTEXT
    wanted = options.num_ctx or settings.context_length or DEFAULT_CONTEXT
    if model.projector_paths:
        wanted = max(wanted, LEAST_CONTEXT_WITH_IMAGES)
    return LoadSpec(
        model_path=str(model.model_path),
        adapter_paths=tuple(map(str, model.adapter_paths)),
        projector_paths=tuple(map(str, model.projector_paths)),
        n_ctx=min(padded_context(wanted), padded_context(trained)),
        n_parallel=settings.num_parallel or DEFAULT_PARALLEL,
        num_batch=options.num_batch or _DEFAULT_BATCH,
        num_gpu=options.num_gpu,
        main_gpu=options.main_gpu,
        num_thread=options.num_thread,
        use_mmap=options.use_mmap,
        flash_attention=settings.flash_attention,
        kv_cache_type=settings.kv_cache_type or _DEFAULT_KV_TYPE,
        kv_ram_bytes=settings.kv_ram_bytes,
        kv_dir=str(settings.kv_dir or ""),
        kv_disk_bytes=settings.kv_disk_bytes,
    )


def asked_for(options: Options, settings: Settings) -> frozenset[str]:
    """The settings of the spec that somebody has chosen: no measurement chooses others."""
    chosen = {
        "num_batch": options.num_batch is not None,
        "most_threads": options.num_thread > 0,
        "flash_attention": settings.flash_attention is not None,
        "kv_cache_type": bool(settings.kv_cache_type),
    }
    return frozenset(name for name, is_chosen in chosen.items() if is_chosen)


def serves(have: LoadSpec, want: LoadSpec) -> bool:
    """Can an engine loaded as `have` serve a request that wants `want`?"""
    return have.n_ctx >= want.n_ctx and msgspec.structs.replace(have, n_ctx=want.n_ctx) == want


def no_smaller(want: LoadSpec, have: LoadSpec) -> LoadSpec:
    """A replacement never has a smaller context than what it replaces: the others who use the model would grow it again."""
    return msgspec.structs.replace(want, n_ctx=max(want.n_ctx, have.n_ctx))

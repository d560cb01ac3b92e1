"""Models for tests of what is above the store: real values, no files but one of the right size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from corral.core.types import Message
from corral.store import GgufHeader, GgufInfo, Model, ModelConfig, ModelName, Tensor

_PROJECTOR: Final = GgufInfo.of(
    GgufHeader(
        metadata={"general.architecture": "clip", "clip.has_vision_encoder": True},
        tensors=(),
        special_tokens={},
        infill_tokens=None,
    )
)


def make_model(
    folder: Path,
    name: str,
    *,
    context_length: int = 4096,
    file_bytes: int = 0,
    digest: str = "",
    template: str | None = None,
    jinja: str = "",
    system: str = "",
    parameters: Mapping[str, Any] | None = None,
    messages: tuple[Message, ...] = (),
    is_embedding: bool = False,
    reads_images: bool = False,
    infill: tuple[str, str, str] | None = None,
    config: ModelConfig | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Model:
    """A model whose file has `file_bytes` bytes (on paper: the file is sparse). `metadata` adds keys or replaces them."""
    path = folder / f"{name}.gguf"
    with path.open("wb") as out:
        out.truncate(file_bytes)
    header: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.context_length": context_length,
        "llama.block_count": 1,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 1,
    }
    if jinja:
        header["tokenizer.chat_template"] = jinja
    if is_embedding:
        header["llama.pooling_type"] = 1
    header |= metadata or {}
    parsed = ModelName.parse(name)
    return Model(
        name=parsed,
        digest=digest or f"{abs(hash(name)):064x}"[-64:],
        size_bytes=file_bytes,
        modified_ns=0,
        config=config or ModelConfig(model_format="gguf"),
        model_path=path,
        projector_paths=(path,) if reads_images else (),
        projectors=(_PROJECTOR,) if reads_images else (),
        adapter_paths=(),
        template=template,
        system=system,
        parameters=parameters or {},
        messages=messages,
        licenses=(),
        gguf=GgufInfo.of(
            GgufHeader(
                metadata={"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, **header},
                tensors=(Tensor("token_embd.weight", "F16", (1,)),),
                special_tokens={1: "<s>", 2: "</s>"},
                infill_tokens=infill,
            )
        ),
    )

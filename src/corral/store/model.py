"""A model as the store hands it out: everything that its manifest and blobs say, checked and read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from corral.core.errors import ModelCorruptError, NotSupportedError
from corral.core.types import Message
from corral.store.gguf_info import GgufInfo
from corral.store.names import ModelName

_LAYER: Final = "application/vnd.ollama.image."
MODEL_LAYER: Final = _LAYER + "model"
PROJECTOR_LAYER: Final = _LAYER + "projector"
ADAPTER_LAYER: Final = _LAYER + "adapter"
DRAFT_LAYER: Final = _LAYER + "draft"
TEMPLATE_LAYER: Final = _LAYER + "template"
SYSTEM_LAYER: Final = _LAYER + "system"
PARAMS_LAYER: Final = _LAYER + "params"
MESSAGES_LAYER: Final = _LAYER + "messages"
LICENSE_LAYER: Final = _LAYER + "license"
CONFIG_LAYER: Final = "application/vnd.docker.container.image.v1+json"


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config blob. Its fields are written in this order, empty ones left out; unknown ones are not kept.

    Source: ollama@v0.32 types/model/config.go.
    """

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""  # the count of parameters, "134.52M"
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] | None = None
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    architecture: str = ""
    os: str = ""


class _StoredMessage(msgspec.Struct, frozen=True):
    role: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved, readable model. Equal digests mean the same manifest, byte for byte."""

    name: ModelName  # spelled as the store spells it
    digest: str  # 64 hex digits of the manifest
    size_bytes: int  # layers and config together
    modified_ns: int  # unix time of the manifest
    config: ModelConfig
    model_path: Path
    projector_paths: tuple[Path, ...]
    adapter_paths: tuple[Path, ...]
    template: str | None  # the Go template layer's text
    system: str
    parameters: Mapping[str, Any]
    messages: tuple[Message, ...]
    licenses: tuple[str, ...]
    gguf: GgufInfo
    projectors: tuple[GgufInfo, ...] = ()  # what the files of `projector_paths` say of themselves
    draft_paths: tuple[Path, ...] = ()
    parent: str = ""  # the model it was made from, as `ModelName.short` has it


def decode_config(data: bytes, name: ModelName) -> ModelConfig:
    """Raises ModelCorruptError for bytes that are no config, NotSupportedError for a model that is only in a cloud."""
    try:
        config = msgspec.json.decode(data, type=ModelConfig)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ModelCorruptError(f"model {name.short!r} has a damaged config: {exc}; pull or create it again") from exc
    if config.remote_host or config.remote_model:
        raise NotSupportedError(
            f"model {name.short!r} runs in Ollama's cloud, which this server does not reach; pull a local model"
        )
    return config


def decode_parameters(data: bytes, name: ModelName) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ModelCorruptError(f"model {name.short!r} has damaged parameters: {exc}; create it again") from exc


def decode_messages(data: bytes, name: ModelName) -> tuple[Message, ...]:
    try:
        stored = msgspec.json.decode(data, type=list[_StoredMessage])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ModelCorruptError(f"model {name.short!r} has damaged messages: {exc}; create it again") from exc
    return tuple(Message(role=message.role, content=message.content) for message in stored)


def encode_messages(messages: tuple[Message, ...]) -> bytes:
    return go_json([{"role": message.role, "content": message.content} for message in messages])


def go_json(value: Any) -> bytes:
    """JSON as Go writes it into a store: `<`, `>` and `&` escaped, a newline at the end."""
    text = msgspec.json.encode(value, order="deterministic" if isinstance(value, dict) else None)
    for character in b"<>&":
        text = text.replace(bytes([character]), b"\\u%04x" % character)
    return text.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029") + b"\n"

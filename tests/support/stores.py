"""Puts models into a store without going through a service."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.core.types import Message
from corral.store import (
    CONFIG_LAYER,
    LICENSE_LAYER,
    MESSAGES_LAYER,
    MODEL_LAYER,
    PARAMS_LAYER,
    PROJECTOR_LAYER,
    SYSTEM_LAYER,
    TEMPLATE_LAYER,
    Model,
    ModelConfig,
    ModelName,
    Store,
    encode_messages,
    go_json,
    read_info,
)
from corral.wire.registry import Descriptor, Manifest


def add_model(
    store: Store,
    name: str,
    gguf: Path,
    *,
    template: str | None = None,
    system: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    messages: Sequence[Message] = (),
    licenses: Sequence[str] = (),
    projector: Path | None = None,
    **config: Any,
) -> Model:
    """Makes a model of a copy of that file, and gives it as the store does. `config` adds or replaces fields of its config."""
    data = gguf.read_bytes()
    info = read_info(gguf)
    layers: list[Descriptor] = [store.put_blob(data, MODEL_LAYER)[0]]
    if projector:
        layers.append(store.put_blob(projector.read_bytes(), PROJECTOR_LAYER)[0])
    texts = [(TEMPLATE_LAYER, template), (SYSTEM_LAYER, system), *((LICENSE_LAYER, text) for text in licenses)]
    layers += [store.put_blob(text.encode(), kind)[0] for kind, text in texts if text is not None]
    if parameters:
        layers.append(store.put_blob(go_json(dict(parameters)), PARAMS_LAYER)[0])
    if messages:
        layers.append(store.put_blob(encode_messages(tuple(messages)), MESSAGES_LAYER)[0])
    fields = {
        "model_format": "gguf",
        "model_family": info.architecture,
        "model_families": (info.architecture,),
        "model_type": info.parameter_size,
        "file_type": info.file_type,
        "architecture": "amd64",
        "os": "linux",
    }
    stored = store.put_blob(go_json(ModelConfig(**fields | config)), CONFIG_LAYER)[0]
    parsed = ModelName.parse(name)
    store.write_manifest(parsed, Manifest(config=stored, layers=tuple(layers)))
    return store.get(parsed)

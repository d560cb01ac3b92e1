"""A model in the making: its config and layers, and what there is to tell about each.

Blocking; nothing is a model before `write`. Layers are written as Ollama writes them, byte for byte, so that a store can be
shared with it.
Source: ollama@v0.32 server/create.go, createModel and the set functions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.store import (
    CONFIG_LAYER,
    LICENSE_LAYER,
    MAX_TEXT_BYTES,
    MESSAGES_LAYER,
    MODEL_LAYER,
    PARAMS_LAYER,
    SYSTEM_LAYER,
    TEMPLATE_LAYER,
    GgufInfo,
    Model,
    ModelConfig,
    ModelName,
    Store,
    encode_messages,
    go_json,
)
from corral.template import detect_family
from corral.wire.registry import Descriptor, Manifest


@dataclass(frozen=True, slots=True)
class DraftLayer:
    layer: Descriptor
    status: str


@dataclass(slots=True)
class Draft:
    """Layers are in the order in which the manifest will have them."""

    store: Store
    config: ModelConfig
    layers: list[DraftLayer] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)  # of the model that it is made from

    @classmethod
    def from_gguf(cls, store: Store, digest: str, path: Path, info: GgufInfo) -> "Draft":
        """A model of one GGUF blob. A known chat format of its Jinja template becomes a template layer with its stops."""
        draft = cls(store, config_of(info))
        layer = Descriptor(media_type=MODEL_LAYER, digest=digest, size=path.stat().st_size)
        draft.add_file(layer, is_new=not store.is_used(digest))
        draft.detect_template(info)
        return draft

    @classmethod
    def from_model(cls, store: Store, model: Model) -> "Draft":
        """A model with all the layers of another one."""
        draft = cls(store, model.config, parameters=dict(model.parameters))
        for layer in store.manifest(model.name).manifest.layers:
            store.adopt(layer.digest)
            inherited = msgspec.structs.replace(layer, parent=model.name.short)
            draft.layers.append(DraftLayer(inherited, _status(layer.digest, is_new=False)))
        return draft

    def add_file(self, layer: Descriptor, *, is_new: bool) -> None:
        """A layer that is in the store already."""
        self.layers.append(DraftLayer(layer, _status(layer.digest, is_new=is_new)))

    def add_family(self, name: str) -> None:
        """The architecture of a file beside the model's own."""
        families = dict.fromkeys((*(self.config.model_families or ()), name))
        self.config = msgspec.structs.replace(self.config, model_families=tuple(families))

    def replace_weights(self, layer: Descriptor, info: GgufInfo, *, is_new: bool) -> None:
        """The same model with weights of another type."""
        weights = DraftLayer(layer, _status(layer.digest, is_new=is_new))
        others = [other for other in self.layers if other.layer.media_type != MODEL_LAYER]
        self.layers = [weights, *others]
        self.config = msgspec.structs.replace(self.config, file_type=info.file_type, model_type=info.parameter_size)

    def detect_template(self, info: GgufInfo) -> None:
        """A chat format of a known family, with its stops, where the file has the Jinja template of one."""
        family = detect_family(info.chat_template, eos_token=info.eos_token) if info.chat_template else None
        if family:
            self._put(TEMPLATE_LAYER, family.template.encode(), status=f"using autodetected template {family.name}")
            self._put(PARAMS_LAYER, go_json({"stop": family.stop}))
            self.parameters = {"stop": family.stop}

    def set_template(self, text: str) -> None:
        self._replace(TEMPLATE_LAYER, text.encode())

    def set_system(self, text: str) -> None:
        self._replace(SYSTEM_LAYER, text.encode())

    def add_license(self, text: str) -> None:
        self._put(LICENSE_LAYER, text.encode())

    def merge_parameters(self, parameters: Mapping[str, Any]) -> None:
        """These over those of the model that it is made from."""
        self.parameters |= {name: value for name, value in parameters.items() if value is not None}
        if self.parameters:
            self._replace(PARAMS_LAYER, go_json(self.parameters))

    def set_messages(self, messages: Sequence[Message]) -> None:
        self._replace(MESSAGES_LAYER, encode_messages(tuple(messages)))

    def set_config(self, **changes: Any) -> None:
        """Fields of ModelConfig."""
        self.config = msgspec.structs.replace(self.config, **changes)

    def statuses(self) -> Iterator[str]:
        return (layer.status for layer in self.layers)

    def write(self, name: ModelName, *, prune: bool = True) -> None:
        """Makes it the model of that name. With `prune`, layers that only the model before it had are removed."""
        config, _ = self.store.put_blob(go_json(self.config), CONFIG_LAYER)
        self.store.replace(name, Manifest(config=config, layers=tuple(layer.layer for layer in self.layers)), prune=prune)

    def _replace(self, media_type: str, data: bytes) -> None:
        self.layers = [layer for layer in self.layers if layer.layer.media_type != media_type]
        self._put(media_type, data)

    def _put(self, media_type: str, data: bytes, *, status: str = "") -> None:
        if len(data) > MAX_TEXT_BYTES:  # no store would read it back
            kind = media_type.rpartition(".")[2]
            raise BadRequestError(f"the {kind} has {len(data)} bytes; {MAX_TEXT_BYTES} is the most that a model can have")
        layer, is_new = self.store.put_blob(data, media_type)
        self.layers.append(DraftLayer(layer, status or _status(layer.digest, is_new=is_new)))


def config_of(info: GgufInfo) -> ModelConfig:
    """What Ollama writes of a model of that file."""
    return ModelConfig(
        model_format="gguf",
        model_family=info.architecture,
        model_families=(info.architecture,),
        model_type=info.parameter_size,
        file_type=info.file_type,
        architecture="amd64",  # what Ollama writes on every platform
        os="linux",
    )


def _status(digest: str, *, is_new: bool) -> str:
    return f"creating new layer {digest}" if is_new else f"using existing layer {digest}"

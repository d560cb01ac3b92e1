"""A store whose one model wears many chat templates: the same weights, loaded once, answer as models of all those families."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from corral.store import DEFAULT_TAG, Model, ModelName, Store
from tests.support.stores import add_model


class Wardrobe(Store):
    """`m` is the model as it is, `m:NAME` the model with the Jinja template of that name in place of its file's."""

    def __init__(self, root: Path, gguf: Path, templates: Mapping[str, str]) -> None:
        super().__init__(root)
        self._templates = templates
        add_model(self, "m", gguf)

    def get(self, name: ModelName) -> Model:
        return self._dressed(super().get(replace(name, tag=DEFAULT_TAG)), name)

    def cached(self, name: ModelName) -> Model | None:
        known = super().cached(replace(name, tag=DEFAULT_TAG))
        return self._dressed(known, name) if known else None

    def _dressed(self, model: Model, name: ModelName) -> Model:
        if name.tag == DEFAULT_TAG:
            return model
        return replace(model, name=name, gguf=replace(model.gguf, chat_template=self._templates[name.tag]))

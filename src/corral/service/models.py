"""What is known of the models on this machine: list, show, copy, delete, the care of the store, and what each model can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corral.core.aio import ThreadLimiter
from corral.core.errors import BadRequestError, ModelCorruptError, ModelNotFoundError, NotFoundError
from corral.core.types import Message
from corral.service.modelfile import BARE_TEMPLATE, modelfile_text, parameters_text
from corral.store import RANK_POOLING, GgufHeader, Listing, LongArray, Model, ModelName, Store, Tensor, model_header
from corral.template import ChatTemplate, choose, compile_go
from corral.wire.care import Pruned, StoreUse

_HIDDEN: Final = ("general.name", "tokenizer.chat_template")  # said elsewhere in what `show` answers


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowResult:
    """Everything that can be said of a model. What it does not have is empty."""

    model: Model
    license: str
    modelfile: str
    parameters: str  # one line a parameter; the model's own alone
    template: str  # the one that it is rendered with
    system: str
    messages: tuple[Message, ...]
    model_info: Mapping[str, Any]  # by key; arrays are None unless they were asked for
    projector_info: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    capabilities: list[str]


class ModelService:
    """The use cases that look at models, rename and remove them, and that keep the store tidy."""

    def __init__(self, store: Store, *, noprune: bool = False) -> None:
        self._store = store
        self._reading = ThreadLimiter("corral-models", 2)
        self._writing = ThreadLimiter("corral-store", 2)  # they wait for the store's lock, and nobody who reads waits for them
        self._noprune = noprune

    async def list_models(self) -> Listing:
        """Every usable model, newest first, and those that are damaged."""
        return await self._reading.run(self._store.scan)

    async def usage(self) -> StoreUse:
        """What is in the store that is ours, and who needs it. Raises StoreError."""
        return await self._reading.run(self._store.usage)

    async def prune(self, *, dry_run: bool, partials: bool) -> Pruned:
        """Removes what nobody needs, and with `partials` interrupted downloads. Raises StoreError."""
        return await self._writing.run(self._store.prune, dry_run=dry_run, partials=partials)

    async def show(
        self,
        name_text: str,
        *,
        verbose: bool = False,
        system: str = "",
        template: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> ShowResult:
        """All about one model; `system`, `template` and `options` as if they were the model's own, where they are given.

        Raises BadRequestError for a name that is none, ModelNotFoundError, ModelCorruptError.
        """
        name = ModelName.parse(name_text)
        model = await self._reading.run(self._store.get, name)
        try:
            return await self._reading.run(_shown, model, verbose, system or model.system, template or None, options or {})
        except ModelCorruptError:
            await self._reading.run(self._store.get, name)  # what was removed meanwhile is not damaged, but gone
            raise

    async def delete(self, name_text: str) -> None:
        """Raises BadRequestError for a name that is none, ModelNotFoundError, StoreError."""
        try:
            name = ModelName.parse(name_text)
        except BadRequestError:
            raise BadRequestError(f'name "{name_text}" is invalid') from None
        try:
            await self._writing.run(self._store.delete, name)
        except ModelNotFoundError:
            raise ModelNotFoundError(name_text) from None  # as the client spelled it

    async def copy(self, source: str, destination: str) -> None:
        """Gives the model a second name; nothing but its manifest is copied.

        Raises BadRequestError for a name that is none, NotFoundError, StoreError.
        """
        names = []
        for what, text in (("source", source), ("destination", destination)):
            try:
                names.append(ModelName.parse(text))
            except BadRequestError:
                raise BadRequestError(f'{what} "{text}" is invalid') from None
        try:
            await self._writing.run(self._store.copy, *names, prune=not self._noprune)
        except ModelNotFoundError:
            raise NotFoundError(f'model "{source}" not found') from None

    def close(self) -> None:
        self._reading.close()
        self._writing.close()


def capabilities(model: Model) -> list[str]:
    """What the model can do, of completion, embedding, rerank, vision, audio, tools, insert and thinking.

    Its templates decide: the Go template layer if there is one, else the Jinja template of its file.
    """
    gguf = model.gguf
    if model.template is not None:
        return _capabilities(model, _go_template(model.template))
    if gguf.chat_template is None:
        return _capabilities(model, None)
    try:
        jinja = choose(None, gguf.chat_template, bos_token=gguf.bos_token, eos_token=gguf.eos_token)
    except BadRequestError:  # said when it is used
        return _capabilities(model, None)
    found = _capabilities(model, jinja)
    return [*found[1:], *found[:1]]


def listed_capabilities(model: Model) -> list[str]:
    """The same by the Go template layer alone: what a list of models says, cheap for any number of them."""
    return _capabilities(model, _go_template(model.template) if model.template is not None else None)


def _go_template(text: str) -> ChatTemplate | None:
    try:
        return compile_go(text)
    except BadRequestError:
        return None


def _capabilities(model: Model, template: ChatTemplate | None) -> list[str]:
    if model.gguf.pooling_type == RANK_POOLING:
        return ["rerank"] if model.gguf.ranks else []
    if model.gguf.pooling_type is not None:
        return ["embedding"]
    found = ["completion"]
    has = {
        "vision": bool(model.gguf.vision_block_count) or any(not projector.only_hears for projector in model.projectors),
        "audio": any(file.hears for file in (model.gguf, *model.projectors)),
        "tools": template is not None and template.has_tools,
        "insert": model.gguf.infill_tokens is not None or (template is not None and template.has_suffix),
        "thinking": template is not None and template.has_thinking,
    }
    found += [name for name, is_there in has.items() if is_there]
    return list(dict.fromkeys((*found, *(model.config.capabilities or ()))))


def _shown(model: Model, verbose: bool, system: str, template: str | None, options: Mapping[str, Any]) -> ShowResult:
    layer = template if template is not None else model.template
    header = model_header(model.model_path, model.name, with_arrays=verbose)
    projectors = [model_header(path, model.name) for path in model.projector_paths]
    return ShowResult(
        model=model,
        license="\n".join(model.licenses),
        modelfile=modelfile_text(model, template=layer, system=system, parameters={**model.parameters, **options}),
        parameters=parameters_text(model.parameters),
        template=layer if layer is not None else model.gguf.chat_template or BARE_TEMPLATE,
        system=system,
        messages=model.messages,
        model_info=_info(header, with_arrays=verbose),
        projector_info=_info(projectors[0], with_arrays=verbose) if projectors else {},
        tensors=header.tensors,
        capabilities=capabilities(model),
    )


def _info(header: GgufHeader, *, with_arrays: bool) -> dict[str, Any]:
    """Metadata by key, and the count of parameters, which is no metadata."""
    shown = {key: _value(value, with_arrays) for key, value in header.metadata.items() if key not in _HIDDEN}
    shown["general.parameter_count"] = header.parameter_count
    return dict(sorted(shown.items()))


def _value(value: Any, with_arrays: bool) -> Any:
    """A value as JSON has it: whole numbers without a point, arrays only where they are wanted."""
    if isinstance(value, LongArray):
        return None
    if isinstance(value, list):
        return [_value(item, with_arrays) for item in value] if with_arrays else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value

"""Making models: of uploaded files, or of a model that is there, with other settings.

What is wrong with a request is said before the first status, as far as it can be known then, and nothing is left half-made: a
model is there once its manifest is. Layers that were written before an error came stay as blobs that nobody has, for the next
try. What the files are is found out in create_sources, what must be made of them is made in create_making, and what the model
is made of is put together in draft.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from corral.core.aio import ThreadLimiter
from corral.core.errors import BadRequestError, ModelNotFoundError
from corral.core.types import Message
from corral.engine import QUANTIZATIONS, Quantization, Workshop, quantization
from corral.registry import Disk
from corral.service.create_checks import (
    check_messages,
    check_parameters,
    check_remote,
    check_template,
    config_changes,
    quantization_of,
    required_version,
)
from corral.service.create_making import Making, Weights
from corral.service.create_sources import (
    AdapterSource,
    GgufFile,
    Sources,
    check_adapter,
    find_adapter,
    find_additions,
    find_draft,
    find_sources,
    is_local,
)
from corral.service.draft import Draft, config_of
from corral.service.flights import Flights, Publish
from corral.service.requests import Status
from corral.store import ADAPTER_LAYER, DRAFT_LAYER, MODEL_LAYER, Model, ModelName, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A model to make. `from_model` and `files` say of what; the rest says how it differs. "" and None: as it is."""

    model: str
    from_model: str = ""
    remote_host: str = ""
    files: Mapping[str, str] | None = None  # file name -> digest of an uploaded blob
    adapters: Mapping[str, str] | None = None
    draft_files: Mapping[str, str] | None = None
    draft_quantize: str = ""
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


class Puller(Protocol):
    def pull(self, name_text: str, *, insecure: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A request that has been looked into. Exactly one of `sources` and `base_name` is there."""

    name: ModelName
    request: CreateRequest
    sources: Sources | None = None
    base_name: ModelName | None = None
    base: Model | None = None  # None: it is to be pulled
    additions: tuple[GgufFile, ...] = ()  # files that are put beside the base
    adapter: AdapterSource | None = None
    draft_model: GgufFile | None = None


class CreateService:
    def __init__(
        self,
        store: Store,
        workshop: Workshop,
        *,
        pull: Puller | None = None,
        threads: ThreadLimiter | None = None,
        disk: Disk | None = None,
        noprune: bool = False,
    ) -> None:
        """`pull` fetches a model that is asked for as `from_model` and is not there; without it that is an error."""
        self._store = store
        self._workshop = workshop
        self._pull = pull
        self._threads = threads or ThreadLimiter("corral-create", 2)
        self._disk = disk or Disk()
        self._noprune = noprune
        self._flights = Flights("create")

    def create(self, request: CreateRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
        """The statuses of making that model, up to `success`. Leaving the block ends the work.

        A name that is none and a path that is not relative raise BadRequestError at once; everything else that can be known
        beforehand is raised on entering, in the order in which Ollama looks.
        """
        name = ModelName.parse(request.model)
        for path in (*(request.files or ()), *(request.adapters or ()), *(request.draft_files or ())):
            if not is_local(path):
                raise BadRequestError("file path must be relative")
        return self._create(name, request)

    async def aclose(self) -> None:
        """Ends whatever is being made."""
        await self._flights.aclose()
        self._threads.close()
        self._disk.close()

    @asynccontextmanager
    async def _create(self, name: ModelName, request: CreateRequest) -> AsyncIterator[AsyncIterator[Status]]:
        plan = await self._threads.run(self._plan, name, request)
        async with self._flights.join(object(), lambda publish: self._make(plan, publish)) as statuses:
            yield statuses

    def _plan(self, name: ModelName, request: CreateRequest) -> _Plan:
        """Everything that can be known before the work begins. Raises what is wrong with the request."""
        if not request.from_model and request.files is None:
            raise BadRequestError("neither 'from' or 'files' was specified")
        _check_settings(request)
        if request.from_model:
            base_name = ModelName.parse(request.from_model)
            plan = _Plan(
                name=name,
                request=request,
                base_name=base_name,
                base=self._found(base_name),
                additions=find_additions(self._store, request.files) if request.files else (),
                **self._beside(request),
            )
            if plan.base:
                _check_fits(plan, plan.base)
            return plan
        sources = find_sources(self._store, request.files or {})
        if sources.folder:
            self._workshop.check_conversion()
        info = sources.model.info if sources.model else sources.shards[0].info if sources.shards else None
        if info:
            quantization_of(request.quantize, info)
        return _Plan(name=name, request=request, sources=sources, **self._beside(request))

    def _beside(self, request: CreateRequest) -> dict[str, Any]:
        """The adapter and the draft model."""
        draft_model = find_draft(self._store, request.draft_files) if request.draft_files else None
        if draft_model:
            quantization_of(request.draft_quantize, draft_model.info)
        return {
            "adapter": find_adapter(self._store, request.adapters) if request.adapters is not None else None,
            "draft_model": draft_model,
        }

    def _found(self, name: ModelName) -> Model | None:
        """None for a model that is not there and is to be pulled."""
        try:
            return self._store.get(name)
        except ModelNotFoundError:
            if self._pull is None:
                raise
            return None

    async def _make(self, plan: _Plan, publish: Publish) -> None:
        async with Making.open(self._store, self._workshop, self._disk, publish) as making:
            if plan.sources:
                draft, weights = await self._from_files(plan, plan.sources, making, publish)
            else:
                draft, weights = await self._from_model(plan, making, publish)
            await self._add_beside(plan, draft, weights, making, publish)
            await self._threads.run(_apply, draft, plan.request)
            for text in draft.statuses():
                publish(Status(status=text))
            publish(Status(status="writing manifest"))
            await self._threads.run(draft.write, plan.name, prune=not self._noprune)
        publish(Status(status="success"))

    async def _from_files(self, plan: _Plan, sources: Sources, making: Making, publish: Publish) -> tuple[Draft, Weights]:
        for _ in range(sources.gguf_count):
            publish(Status(status="parsing GGUF"))
        weights = await self._weights(plan, sources, making)
        if to := quantization_of(plan.request.quantize, weights.info):
            weights = await making.quantized(weights, to)
        publish(Status(status="verifying conversion"))
        layer, is_new = await making.kept(weights, MODEL_LAYER)
        draft = Draft(self._store, config_of(weights.info))
        draft.add_file(layer, is_new=is_new)
        await self._add_files(draft, (*sources.projectors, *sources.adapters), making)
        await self._threads.run(draft.detect_template, weights.info)
        return draft, weights

    @staticmethod
    async def _add_files(draft: Draft, files: Iterable[GgufFile], making: Making) -> None:
        for file in files:
            layer, is_new = await making.kept(_stored(file), file.media_type)
            draft.add_file(layer, is_new=is_new)
            draft.add_family(file.info.architecture)

    async def _weights(self, plan: _Plan, sources: Sources, making: Making) -> Weights:
        if sources.shards:
            return await making.merged(sources.shards)
        if sources.folder:
            return await making.converted(sources.folder, plan.name.model, _float_type(plan.request.quantize))
        assert sources.model is not None
        return _stored(sources.model)

    async def _from_model(self, plan: _Plan, making: Making, publish: Publish) -> tuple[Draft, Weights]:
        base = plan.base or await self._pulled(plan, publish)
        draft = await self._threads.run(Draft.from_model, self._store, base)
        weights = Weights(base.model_path, base.gguf, is_stored=True)
        if to := quantization_of(plan.request.quantize, base.gguf):
            made = await making.quantized(weights, to)
            publish(Status(status="verifying conversion"))
            layer, is_new = await making.kept(made, MODEL_LAYER)
            draft.replace_weights(layer, made.info, is_new=is_new)
        return draft, weights

    async def _pulled(self, plan: _Plan, publish: Publish) -> Model:
        assert self._pull is not None
        assert plan.base_name is not None
        async with self._pull.pull(plan.request.from_model, insecure=False) as statuses:
            async for status in statuses:
                if status.status != "success":  # the pull's, not ours
                    publish(status)
        base = await self._threads.run(self._store.get, plan.base_name)
        _check_fits(plan, base)
        return base

    async def _add_beside(self, plan: _Plan, draft: Draft, weights: Weights, making: Making, publish: Publish) -> None:
        """Projectors, the adapter and the draft model."""
        await self._add_files(draft, plan.additions, making)
        if plan.adapter:
            if plan.adapter.gguf:
                check_adapter(plan.adapter.gguf, weights.info)
            layer, is_new = await making.kept(await making.adapter(plan.adapter, weights), ADAPTER_LAYER)
            draft.add_file(layer, is_new=is_new)
        if plan.draft_model:
            file = _stored(plan.draft_model)
            if to := quantization_of(plan.request.draft_quantize, file.info):
                file = await making.quantized(file, to)
            layer, is_new = await making.kept(file, DRAFT_LAYER)
            draft.add_file(layer, is_new=is_new)
            publish(Status(status="keeping the draft model; answers are made without it"))


def _stored(file: GgufFile) -> Weights:
    return Weights(file.path, file.info, file.digest, is_stored=True)


def _float_type(quantize: str) -> Quantization:
    """The type in which a model is converted that is to have this one in the end."""
    to = QUANTIZATIONS.get(quantize.upper())
    return to if to and to.is_float else QUANTIZATIONS["F16"]


def _check_settings(request: CreateRequest) -> None:
    """Everything that can be wrong with how the model is to differ."""
    if request.draft_quantize and not request.draft_files:
        raise BadRequestError("--draft-quantize requires a DRAFT model")
    check_remote(request.remote_host, has_draft=bool(request.draft_files))
    if request.template:
        check_template(request.template)
    check_parameters(request.parameters)
    check_messages(request.messages)
    required_version(request.requires)
    config_changes(request.info)
    for wanted in (request.quantize, request.draft_quantize):
        if wanted:
            quantization(wanted)


def _check_fits(plan: _Plan, base: Model) -> None:
    """Whether what is asked for can be made of that model."""
    quantization_of(plan.request.quantize, base.gguf)
    adapters = [file for file in plan.additions if file.media_type == ADAPTER_LAYER]
    if plan.adapter and plan.adapter.gguf:
        adapters.append(plan.adapter.gguf)
    for adapter in adapters:
        check_adapter(adapter, base.gguf)


def _apply(draft: Draft, request: CreateRequest) -> None:
    if request.template:
        draft.set_template(request.template)
    if request.system:
        draft.set_system(request.system)
    for text in request.licenses:
        draft.add_license(text)
    if request.parameters:
        draft.merge_parameters(request.parameters)
    if request.messages:
        draft.set_messages(request.messages)
    own = {"renderer": request.renderer, "parser": request.parser, "requires": required_version(request.requires)}
    draft.set_config(**{name: value for name, value in own.items() if value}, **config_changes(request.info))

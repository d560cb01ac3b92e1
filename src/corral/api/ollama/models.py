"""GET /api/tags and /api/ps, POST /api/show and /api/copy, DELETE /api/delete: the models, and what is known of one."""

from collections.abc import Mapping
from typing import Final

from corral.api.decode import RequestDecoder
from corral.api.exchange import Answer, Exchange, Handler, json_answer
from corral.api.ollama.dialect import OLLAMA
from corral.api.services import InferenceService, ModelService
from corral.api.stamps import expiry_text, local_text
from corral.core.errors import BadRequestError
from corral.sched import Running
from corral.service.models import ShowResult, listed_capabilities
from corral.store import Model
from corral.wire import ollama as wire

_SHOW: Final = RequestDecoder(wire.ShowRequest, OLLAMA)
_DELETE: Final = RequestDecoder(wire.DeleteRequest, OLLAMA)
_COPY: Final = RequestDecoder(wire.CopyRequest, OLLAMA)
_COPILOT: Final = "GitHubCopilotChat/"  # it calls a model by its basename, and so is told the name that it asked with


def tags(service: ModelService) -> Handler:
    async def handle(_exchange: Exchange) -> Answer:
        listing = await service.list_models()
        damaged = [wire.DamagedModel(name=item.name.short, error=str(item.error)) for item in listing.damaged]
        return json_answer(wire.ListResponse(models=[_listed(model) for model in listing.models], damaged=damaged))

    return handle


def ps(service: InferenceService) -> Handler:
    async def handle(_exchange: Exchange) -> Answer:
        return json_answer(wire.ProcessResponse(models=[_loaded(running) for running in service.running()]))

    return handle


def show(service: ModelService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given = await exchange.aside(_SHOW.decode, exchange.body)
        name = _required(given.model or given.name)
        result = await service.show(
            name,
            verbose=bool(given.verbose),
            system=given.system or "",
            template=given.template or "",
            options=given.options or {},
        )
        named = {"general.basename": name} if exchange.header(b"user-agent").startswith(_COPILOT) else {}
        return json_answer(_shown(result, named))

    return handle


def delete(service: ModelService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given = await exchange.aside(_DELETE.decode, exchange.body)
        await service.delete(_required(given.model or given.name))
        return Answer(content_type=b"")

    return handle


def copy(service: ModelService) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        given = await exchange.aside(_COPY.decode, exchange.body)
        await service.copy(given.source or "", given.destination or "")
        return Answer(content_type=b"")

    return handle


def _required(name: str | None) -> str:
    if not name:
        raise BadRequestError("model is required")
    return name


def _shown(result: ShowResult, named: Mapping[str, str]) -> wire.ShowResponse:
    return wire.ShowResponse(
        license=result.license,
        modelfile=result.modelfile,
        parameters=result.parameters,
        template=result.template,
        system=result.system,
        renderer=result.model.config.renderer,
        parser=result.model.config.parser,
        details=_details(result.model),
        messages=[wire.Message(role=message.role, content=message.content) for message in result.messages],
        model_info={**result.model_info, **named},
        projector_info=dict(result.projector_info),
        tensors=[wire.Tensor(name=tensor.name, type=tensor.type_name, shape=list(tensor.shape)) for tensor in result.tensors],
        capabilities=result.capabilities,
        modified_at=local_text(result.model.modified_ns),
        requires=result.model.config.requires,
    )


def _listed(model: Model) -> wire.ListModel:
    return wire.ListModel(
        name=model.name.short,
        model=model.name.short,
        modified_at=local_text(model.modified_ns),
        size=model.size_bytes,
        digest=model.digest,
        details=_details(model, with_lengths=True),
        capabilities=listed_capabilities(model),
    )


def _loaded(running: Running) -> wire.ProcessModel:
    model = running.model
    return wire.ProcessModel(
        name=model.name.short,
        model=model.name.short,
        size=running.size_bytes,
        digest=model.digest,
        details=_details(model),
        expires_at=expiry_text(running.expires_unix_ns),
        size_vram=running.vram_bytes,
        context_length=running.n_ctx,
    )


def _details(model: Model, *, with_lengths: bool = False) -> wire.ModelDetails:
    config = model.config
    return wire.ModelDetails(
        parent_model=model.parent,
        format=config.model_format,
        family=config.model_family,
        families=list(config.model_families or ()),
        parameter_size=config.model_type,
        quantization_level=config.file_type,
        context_length=model.gguf.context_length if with_lengths else 0,
        embedding_length=model.gguf.embedding_length if with_lengths else 0,
    )

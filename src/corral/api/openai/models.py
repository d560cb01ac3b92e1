"""GET /v1/models and /v1/models/{model}: the models on this machine, as OpenAI's clients list them."""

from corral.api.exchange import PLAIN_JSON, Answer, Exchange, Handler, json_answer
from corral.api.services import ModelService
from corral.core.units import NS_PER_S
from corral.store import Model
from corral.wire.openai import ModelEntries, ModelEntry


def listed(service: ModelService) -> Handler:
    async def handle(_exchange: Exchange) -> Answer:
        models = (await service.list_models()).models
        entries = [_entry(model.name.short, model) for model in models]
        return json_answer(ModelEntries(object="list", data=entries), content_type=PLAIN_JSON)

    return handle


def retrieved(service: ModelService) -> Handler:
    """One model, by the name that it was asked with."""

    async def handle(exchange: Exchange) -> Answer:
        name = exchange.path_params["model"]
        shown = await service.show(name, verbose=False, system="", template="", options={})
        return json_answer(_entry(name, shown.model), content_type=PLAIN_JSON)

    return handle


def _entry(name: str, model: Model) -> ModelEntry:
    return ModelEntry(id=name, object="model", created=model.modified_ns // NS_PER_S, owned_by=model.name.namespace)

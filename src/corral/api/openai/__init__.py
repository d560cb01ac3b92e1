"""OpenAI's API, /v1/*: the rows of the route table. `convert`, `messages` and `values` read, the others answer."""

from collections.abc import Sequence

from corral.api.openai import chat, completions, embed, models, rerank, responses
from corral.api.openai.dialect import OPENAI
from corral.api.openapi import Operation
from corral.api.services import Services
from corral.wire import openai as wire
from corral.wire import openai_embed
from corral.wire import rerank as rerank_wire
from corral.wire import responses as responses_wire

__all__ = ["OPENAI", "operations"]

_TAG = "OpenAI"


def operations(services: Services) -> Sequence[Operation]:
    return [*_plain(services), *_responses(services)]


def _plain(services: Services) -> Sequence[Operation]:
    return [
        Operation(
            path="/v1/chat/completions",
            methods=("POST",),
            handler=chat.chat(services.inference),
            summary="Go on with a conversation",
            tag=_TAG,
            request=wire.ChatCompletionRequest,
            response=wire.ChatCompletion,
            event=wire.ChatCompletionChunk,
            streams=True,
        ),
        Operation(
            path="/v1/completions",
            methods=("POST",),
            handler=completions.completions(services.inference, services.tokens),
            summary="Answer prompts",
            tag=_TAG,
            request=wire.CompletionRequest,
            response=wire.Completion,
            event=wire.CompletionChunk,
            streams=True,
        ),
        Operation(
            path="/v1/embeddings",
            methods=("POST",),
            handler=embed.embeddings(services.embed, services.tokens),
            summary="Make vectors of texts",
            tag=_TAG,
            request=openai_embed.EmbeddingsRequest,
            response=openai_embed.EmbeddingsList,
        ),
        Operation(
            path="/v1/rerank",
            methods=("POST",),
            handler=rerank.rerank(services.rerank),
            summary="Order texts by how well they answer a query",
            tag=_TAG,
            request=rerank_wire.DocumentsRequest,
            response=rerank_wire.RankedDocuments,
        ),
        Operation(
            path="/v1/models",
            methods=("GET",),
            handler=models.listed(services.models),
            summary="The models on this machine",
            tag=_TAG,
            response=wire.ModelEntries,
        ),
        Operation(
            path="/v1/models/{model:path}",
            methods=("GET",),
            handler=models.retrieved(services.models),
            summary="One model",
            tag=_TAG,
            response=wire.ModelEntry,
        ),
    ]


def _responses(services: Services) -> Sequence[Operation]:
    held = responses.HeldResponses()
    return [
        Operation(
            path="/v1/responses",
            methods=("POST",),
            handler=responses.responses(services.inference, held),
            summary="Answer a conversation of items",
            tag=_TAG,
            request=responses_wire.ResponsesRequest,
            response=responses_wire.ResponseObject,
            events=responses_wire.EVENTS,
            streams=True,
        ),
        Operation(
            path="/v1/responses/{response_id}",
            methods=("GET",),
            handler=responses.retrieved(held),
            summary="A response that is kept",
            tag=_TAG,
            response=responses_wire.ResponseObject,
        ),
        Operation(
            path="/v1/responses/{response_id}",
            methods=("DELETE",),
            handler=responses.deleted(held),
            summary="Keep a response no longer",
            tag=_TAG,
            response=responses_wire.DeletedResponse,
        ),
    ]

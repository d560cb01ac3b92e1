"""Ollama's API, /api/*: the rows of the route table. One module a group of endpoints; `convert` reads, the others answer."""

from collections.abc import Sequence

from corral.api.ollama import answers, blobs, cloud, embed, models, progress, rerank, server, text, tune
from corral.api.ollama.dialect import OLLAMA
from corral.api.openapi import Operation
from corral.api.services import Services
from corral.wire import ollama as wire
from corral.wire import text as text_wire
from corral.wire import tuning as tuning_wire

__all__ = ["OLLAMA", "operations"]

_READ = ("GET", "HEAD")


def operations(services: Services) -> list[Operation]:
    return [*_generation(services), *_text(services), *_models(services), *_making(services), *_server(), *_cloud()]


def _generation(services: Services) -> Sequence[Operation]:
    return [
        Operation(
            path="/api/chat",
            methods=("POST",),
            handler=answers.chat(services.inference),
            summary="Go on with a conversation",
            tag="generation",
            request=wire.ChatRequest,
            response=wire.ChatResponse,
            streams=True,
        ),
        Operation(
            path="/api/generate",
            methods=("POST",),
            handler=answers.generate(services.inference),
            summary="Answer a prompt",
            tag="generation",
            request=wire.GenerateRequest,
            response=wire.GenerateResponse,
            streams=True,
        ),
        Operation(
            path="/api/embed",
            methods=("POST",),
            handler=embed.embed(services.embed),
            summary="Make vectors of texts",
            tag="generation",
            request=wire.EmbedRequest,
            response=wire.EmbedResponse,
        ),
        Operation(
            path="/api/embeddings",
            methods=("POST",),
            handler=embed.embeddings(services.embed),
            summary="Make a vector of one text: the older form of embed",
            tag="generation",
            request=wire.EmbeddingRequest,
            response=wire.EmbeddingResponse,
        ),
    ]


def _text(services: Services) -> Sequence[Operation]:
    """What Ollama's API does not have."""
    return [
        Operation(
            path="/api/rerank",
            methods=("POST",),
            handler=rerank.rerank(services.rerank),
            summary="Put texts in the order in which they answer a query",
            tag="generation",
            request=text_wire.RerankRequest,
            response=text_wire.RerankResponse,
        ),
        Operation(
            path="/api/tokenize",
            methods=("POST",),
            handler=text.tokenize(services.tokens),
            summary="Take a text apart as the model does",
            tag="text",
            request=text_wire.TokenizeRequest,
            response=text_wire.TokenizeResponse,
        ),
        Operation(
            path="/api/detokenize",
            methods=("POST",),
            handler=text.detokenize(services.tokens),
            summary="Put tokens together",
            tag="text",
            request=text_wire.DetokenizeRequest,
            response=text_wire.DetokenizeResponse,
        ),
        Operation(
            path="/api/apply-template",
            methods=("POST",),
            handler=text.apply_template(services.inference),
            summary="Render a conversation as the model's prompt",
            tag="text",
            request=text_wire.ApplyTemplateRequest,
            response=text_wire.ApplyTemplateResponse,
        ),
    ]


def _models(services: Services) -> Sequence[Operation]:
    return [
        Operation(
            path="/api/tags",
            methods=_READ,
            handler=models.tags(services.models),
            summary="The models on this machine, newest first",
            tag="models",
            response=wire.ListResponse,
        ),
        Operation(
            path="/api/ps",
            methods=("GET",),
            handler=models.ps(services.inference),
            summary="The models in memory",
            tag="models",
            response=wire.ProcessResponse,
        ),
        Operation(
            path="/api/show",
            methods=("POST",),
            handler=models.show(services.models),
            summary="All that is known of a model",
            tag="models",
            request=wire.ShowRequest,
            response=wire.ShowResponse,
        ),
        Operation(
            path="/api/delete",
            methods=("DELETE",),
            handler=models.delete(services.models),
            summary="Remove a model",
            tag="models",
            request=wire.DeleteRequest,
            content_type="",
        ),
        Operation(
            path="/api/copy",
            methods=("POST",),
            handler=models.copy(services.models),
            summary="Give a model a second name",
            tag="models",
            request=wire.CopyRequest,
            content_type="",
        ),
    ]


def _making(services: Services) -> Sequence[Operation]:
    return [
        Operation(
            path="/api/pull",
            methods=("POST",),
            handler=progress.pull(services.pull),
            summary="Fetch a model",
            tag="making models",
            request=wire.PullRequest,
            response=wire.ProgressResponse,
            streams=True,
        ),
        Operation(
            path="/api/push",
            methods=("POST",),
            handler=progress.push(services.push),
            summary="Send a model to a registry",
            tag="making models",
            request=wire.PushRequest,
            response=wire.ProgressResponse,
            streams=True,
        ),
        Operation(
            path="/api/create",
            methods=("POST",),
            handler=progress.create(services.create),
            summary="Make a model from a file or from another model",
            tag="making models",
            request=wire.CreateRequest,
            response=wire.ProgressResponse,
            streams=True,
        ),
        Operation(
            path="/api/tune",
            methods=("POST",),
            handler=tune.tune(services.tune),
            summary="Measure which settings of the engine suit a model on this machine, and keep them",
            tag="making models",
            request=text_wire.TuneRequest,
            response=tuning_wire.TuneResponse,
            streams=True,
        ),
        Operation(
            path="/api/blobs/{digest}",
            methods=("HEAD",),
            handler=blobs.head(services.blobs),
            summary="Whether a file is there",
            tag="making models",
            content_type="",
        ),
        Operation(
            path="/api/blobs/{digest}",
            methods=("POST",),
            handler=blobs.upload(services.blobs),
            summary="Upload a file to create a model from",
            tag="making models",
            content_type="",
            uploads=True,
        ),
    ]


def _server() -> Sequence[Operation]:
    return [
        Operation(
            path="/api/version",
            methods=_READ,
            handler=server.version,
            summary="The version of Ollama whose API this is, and Corral's own",
            tag="server",
            response=wire.VersionResponse,
        ),
        Operation(
            path="/",
            methods=_READ,
            handler=server.root,
            summary="A sign of life, in Ollama's words",
            tag="server",
            content_type="text/plain",
        ),
    ]


def _cloud() -> Sequence[Operation]:
    return [
        Operation(
            path="/api/status",
            methods=("GET",),
            handler=cloud.status,
            summary="That there is no cloud",
            tag="cloud",
            response=wire.StatusResponse,
        ),
        Operation(
            path="/api/experimental/model-recommendations",
            methods=("GET",),
            handler=cloud.recommendations,
            summary="Models that a cloud recommends: none",
            tag="cloud",
            response=wire.RecommendationsResponse,
        ),
        Operation(path="/api/me", methods=("POST",), handler=cloud.who_am_i, summary="Who is signed in: nobody", tag="cloud"),
        Operation(path="/api/signout", methods=("POST",), handler=cloud.sign_out, summary="Sign out of a cloud", tag="cloud"),
        Operation(
            path="/api/user/keys/{encoded_key}",
            methods=("DELETE",),
            handler=cloud.sign_out,
            summary="Sign out of a cloud: the older form",
            tag="cloud",
        ),
        Operation(
            path="/api/experimental/web_search",
            methods=("POST",),
            handler=cloud.unavailable("web search"),
            summary="Search the web through a cloud",
            tag="cloud",
        ),
        Operation(
            path="/api/experimental/web_fetch",
            methods=("POST",),
            handler=cloud.unavailable("web fetch"),
            summary="Fetch a page through a cloud",
            tag="cloud",
        ),
    ]

"""What chat and generate refuse before a model is loaded, in the order in which Ollama refuses it. Pure.

Source: ollama@v0.32 server/routes.go, ChatHandler and GenerateHandler.
"""

from collections.abc import Collection
from typing import Final

from corral.core.errors import BadRequestError, CapabilityError, NotSupportedError
from corral.service.requests import ChatRequest, GenerateRequest, InferenceRequest
from corral.store import Model

MAX_TOP_LOGPROBS: Final = 20


def check_logprobs(request: InferenceRequest) -> None:
    """Before the model is looked for."""
    if not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequestError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


def check_chat(model: Model, request: ChatRequest, can: Collection[str], *, ignores_images: bool) -> None:
    """`can` is what the model can do."""
    _check_kind(request, can, "chat")
    if request.tools and "tools" not in can:
        raise CapabilityError(f"{model.name.full} does not support tools")
    if request.messages:
        _check_to_come(request)
    for message in request.messages:
        _check_images(model, request, len(message.images), can, ignores_images=ignores_images)


def check_generate(model: Model, request: GenerateRequest, can: Collection[str], *, ignores_images: bool) -> None:
    """`can` is what the model can do."""
    if request.raw and (request.template or request.system or request.context):
        raise BadRequestError("raw mode does not support template, system, or context")
    _check_kind(request, can, "generate")
    if request.suffix and "insert" not in can:
        raise cannot_insert(model)
    if request.prompt:  # without one the model is loaded, whatever else there is
        _check_to_come(request)
        _check_images(model, request, len(request.images), can, ignores_images=ignores_images)


def check_answerable(tools: Collection[object], image_count: int) -> None:
    """What can be rendered and not answered yet."""
    if tools:
        raise NotSupportedError("tools: this version of Corral does not parse tool calls yet; send the request without tools")
    if image_count:
        raise NotSupportedError("images: this version of Corral does not read images yet; send the request without images")


def cannot_insert(model: Model) -> CapabilityError:
    return CapabilityError(f"{model.name.full} does not support insert")


def _check_kind(request: InferenceRequest, can: Collection[str], use: str) -> None:
    if "image" in can:
        raise BadRequestError("image generation models are not currently supported")
    if request.think and "thinking" not in can:
        raise CapabilityError(f'"{request.model}" does not support thinking')
    if "completion" not in can:
        raise CapabilityError(f'"{request.model}" does not support {use}')


def _check_to_come(request: InferenceRequest) -> None:
    if request.format is not None:
        raise NotSupportedError("format: this version of Corral has no structured output yet; send the request without format")


def _check_images(model: Model, request: InferenceRequest, count: int, can: Collection[str], *, ignores_images: bool) -> None:
    if count and "vision" not in can and not ignores_images:
        raise CapabilityError(f'"{request.model}" does not support vision')
    if count > 1 and "mllama" in (model.config.model_families or ()):
        raise BadRequestError("this model only supports one image while more than one image requested")

"""What chat and generate refuse before a model is loaded, in the order in which Ollama refuses it. Pure.

Source: ollama@v0.32 server/routes.go, ChatHandler and GenerateHandler.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from corral.core.errors import BadRequestError, CapabilityError
from corral.core.options import Options, adapter_scales
from corral.service.requests import ChatRequest, GenerateRequest, InferenceRequest
from corral.store import Model

MAX_TOP_LOGPROBS: Final = 20
MAX_PROMPT_CHARS: Final = 32 << 20  # as many as a template may make of a conversation; no context holds as many tokens
MAX_TOOLS: Final = 1_000  # each is in the prompt, and a part of the grammar


def check_logprobs(request: InferenceRequest) -> None:
    """Before the model is looked for."""
    if not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequestError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


def wanted_logprobs(request: InferenceRequest, options: Options) -> int:
    """How many likeliest tokens are to be told beside each token of the answer; negative: no logprobs at all.

    `n_probs` is llama.cpp's way to ask for them. Raises BadRequestError for too many.
    """
    if options.n_probs > MAX_TOP_LOGPROBS:
        raise BadRequestError(f'option "n_probs" must be between 0 and {MAX_TOP_LOGPROBS}')
    by_request = request.top_logprobs if request.logprobs else -1
    return max(by_request, options.n_probs) if options.n_probs > 0 else by_request


def check_adapters(model: Model, options: Options) -> None:
    """Raises BadRequestError for an adapter that the model does not have."""
    adapter_scales(options.lora, len(model.adapter_paths))


def check_chat(model: Model, request: ChatRequest, can: Collection[str], *, ignores_images: bool) -> None:
    """`can` is what the model can do."""
    _check_kind(request, can, "chat")
    if request.tools and "tools" not in can:
        raise CapabilityError(f"{model.name.full} does not support tools")
    _check_tools(request)
    if request.messages:
        _check_constraints(request)
    for message in request.messages:
        _check_images(model, request, len(message.images), can, ignores_images=ignores_images)


def check_generate(model: Model, request: GenerateRequest, can: Collection[str], *, ignores_images: bool) -> None:
    """`can` is what the model can do."""
    if request.raw and (request.template or request.system or request.context):
        raise BadRequestError("raw mode does not support template, system, or context")
    _check_kind(request, can, "generate")
    if request.suffix and "insert" not in can:
        raise cannot_insert(model)
    if len(request.prompt) + len(request.suffix) > MAX_PROMPT_CHARS:
        raise BadRequestError(f"the prompt has more than {MAX_PROMPT_CHARS} characters; send a shorter one")
    if request.has_prompt:  # without one the model is loaded, whatever else there is
        _check_constraints(request)
        _check_images(model, request, len(request.images), can, ignores_images=ignores_images)


def takes_media(can: Collection[str]) -> bool:
    """Whether the model takes what comes as images, which may be sounds, too. Which of them it takes, its engine says."""
    return "vision" in can or "audio" in can


def cannot_insert(model: Model) -> CapabilityError:
    return CapabilityError(f"{model.name.full} does not support insert")


def _check_kind(request: InferenceRequest, can: Collection[str], use: str) -> None:
    if "image" in can:
        raise BadRequestError("image generation models are not currently supported")
    if request.think and "thinking" not in can:
        raise CapabilityError(f'"{request.model}" does not support thinking')
    if "completion" not in can:
        raise CapabilityError(f'"{request.model}" does not support {use}')


def _check_tools(request: ChatRequest) -> None:
    if len(request.tools) > MAX_TOOLS:
        raise BadRequestError(f"tools: {len(request.tools)} tools are too many; {MAX_TOOLS} are taken")
    names = [_name_of(tool) for tool in request.tools]
    for number, name in enumerate(names):
        if not name:
            raise BadRequestError(f"tools[{number}]: the function has no name; every tool needs one")
        if name in names[:number]:
            raise BadRequestError(f'tools[{number}]: there is another tool named "{name}"; every tool needs a name of its own')
    choice = request.tool_choice
    if choice.mode == "required" and not names:
        raise BadRequestError("tool_choice asks for a call, and there are no tools; send tools or leave tool_choice out")
    if choice.name and choice.name not in names:
        raise BadRequestError(f'tool_choice names "{choice.name}", which is none of the tools: {", ".join(names)}')


def _name_of(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


def _check_constraints(request: InferenceRequest) -> None:
    given = {"format": request.format is not None, "grammar": request.grammar, "regex": request.regex, "choice": request.choice}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise BadRequestError(f"{' and '.join(names)} cannot be given together; send one of them")


def _check_images(model: Model, request: InferenceRequest, count: int, can: Collection[str], *, ignores_images: bool) -> None:
    if count and not takes_media(can) and not ignores_images:
        raise CapabilityError(f'"{request.model}" does not support vision')
    if count > 1 and "mllama" in (model.config.model_families or ()):
        raise BadRequestError("this model only supports one image while more than one image requested")

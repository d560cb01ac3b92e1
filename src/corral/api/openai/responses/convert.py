"""From a wire request to the domain's: what is shared with chat is converted there, what is OpenAI's alone here.

What depends on the model is the services' to check. Errors name the field that is wrong.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from corral.api.errors import FieldError
from corral.api.openai.convert import schema_format
from corral.api.openai.responses.items import messages
from corral.api.openai.responses.tools import Tools
from corral.api.openai.values import effort, generation, limit, refused, user_of
from corral.core.types import Message
from corral.service.requests import ChatRequest
from corral.wire.responses import InputItem, ResponsesRequest

LOGPROBS: Final = "message.output_text.logprobs"
_INCLUDED: Final = (  # what there is anyway, or belongs to what never comes
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_SUMMARIES: Final = ("auto", "concise", "detailed")
_VERBOSITIES: Final = ("low", "medium", "high")
_TRUNCATIONS: Final = ("auto", "disabled")
_MOST_METADATA: Final = 16
_LONGEST_KEY: Final = 64
_LONGEST_VALUE: Final = 512
_TOO_MANY: Final = "object_above_max_properties"
_TOO_LONG: Final = "string_above_max_length"


class MetadataError(FieldError):
    """More, or longer, than may be kept with a response."""

    def __init__(self, field: str, text: str, code: str) -> None:
        super().__init__(field, text)
        self.code = code


def chat_request(given: ResponsesRequest, items: Iterable[tuple[str, InputItem]], tools: Tools, *, client: str) -> ChatRequest:
    """For the answer to a conversation. `items` come with where each stands. Raises BadRequestError."""
    _check(given)
    common = generation(given)
    common["options"] |= limit("max_tokens", given.max_tokens) | limit("max_output_tokens", given.max_output_tokens)
    if given.think is None and given.reasoning:
        common["think"] = effort(given.reasoning.effort)
    system = [Message(role="system", content=given.instructions)] if given.instructions else []
    return ChatRequest(
        messages=(*system, *messages(items)),
        tools=tools.shown,
        tool_choice=tools.choice,
        parallel_tool_calls=given.parallel_tool_calls is not False,
        format=_format(given),
        truncate=given.truncation == "auto",
        logprobs=wants_logprobs(given),
        top_logprobs=given.top_logprobs or 0,
        call_parts=True,
        client=user_of(client, given),
        **common,
    )


def _check_metadata(given: Mapping[str, str]) -> None:
    """Source: OpenAI's API reference, metadata; the texts and codes are those of its errors."""
    if len(given) > _MOST_METADATA:
        expected = f"Expected an object with at most {_MOST_METADATA} properties"
        got = f"but got an object with {len(given)} properties instead"
        raise MetadataError("metadata", f"Invalid 'metadata': too many properties. {expected}, {got}.", _TOO_MANY)
    for key, value in given.items():
        _check_length("metadata", "key", key, _LONGEST_KEY)
        _check_length(f"metadata.{key}", "string", value, _LONGEST_VALUE)


def _check_length(at: str, what: str, text: str, most: int) -> None:
    if len(text) > most:
        expected = f"Expected a string with maximum length {most}, but got a string with length {len(text)} instead"
        raise MetadataError(at, f"Invalid '{at}': {what} too long. {expected}.", _TOO_LONG)


def wants_logprobs(given: ResponsesRequest) -> bool:
    return bool(given.top_logprobs) or LOGPROBS in (given.include or ())


def _check(given: ResponsesRequest) -> None:
    """What cannot be had is refused by name, and so is what there is not."""
    if given.background:
        raise refused("background", "an answer ends with its connection; stream it, or wait for it")
    if given.conversation:
        raise refused("conversation", "send previous_response_id, or all items as input")
    if isinstance(given.prompt, dict):
        raise refused("prompt", "no prompts are kept here; send instructions and input")
    if given.context_management:
        raise refused("context_management", "send truncation, or a request for a summary")
    if given.n not in (None, 1):
        raise refused("n", "a response is one answer; send several requests, or n to /v1/chat/completions")
    for index, word in enumerate(given.include or ()):
        _check_word(f"include[{index}]", word, _INCLUDED)
    _check_metadata(given.metadata or {})
    _check_word("truncation", given.truncation, _TRUNCATIONS)
    if given.reasoning:
        _check_word("reasoning.summary", given.reasoning.summary, _SUMMARIES)
    if given.text:
        _check_word("text.verbosity", given.text.verbosity, _VERBOSITIES)


def _check_word(field: str, word: str | None, words: tuple[str, ...]) -> None:
    if word is not None and word not in words:
        raise FieldError(field, f'{field} is "{word}"; it must be one of {", ".join(words)}')


def _format(given: ResponsesRequest) -> Any:
    if given.text is None or given.text.format is None:
        return None
    wanted = given.text.format
    return schema_format(wanted.type, wanted.schema, "text.format", "text.format.schema")

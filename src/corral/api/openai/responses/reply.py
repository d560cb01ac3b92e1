"""A response as one object: what it says of its request, how far it is, what it cost."""

import time
from collections.abc import Sequence
from typing import Any, Final

from corral.api.errors import status_of, text_of
from corral.api.openai.chat import truncated
from corral.api.openai.responses.output import new_id
from corral.api.openai.values import tier_told
from corral.service.requests import Done
from corral.wire import responses as wire
from corral.wire.openai import CompletionTokensDetails, Json

_TEXT: Final = wire.TextFormat(type="text")
_NULLS: Final[Json] = {"description": None, "parameters": None, "strict": None}
_OFF: Final = "disabled"


class Reply:
    """The same object again and again, further on each time."""

    def __init__(self, given: wire.ResponsesRequest) -> None:
        self.response_id = new_id("resp")
        self._same = _echo(given) | {"id": self.response_id, "object": "response", "created_at": int(time.time())}

    def begun(self) -> wire.ResponseObject:
        return self._response("in_progress", ())

    def ended(self, items: Sequence[wire.OutputItem], done: Done) -> wire.ResponseObject:
        usage, more = _usage(done), truncated([done])
        if done.reason == "length":
            details = wire.IncompleteDetails("max_output_tokens")
            return self._response("incomplete", items, incomplete_details=details, usage=usage, **more)
        return self._response("completed", items, completed_at=int(time.time()), usage=usage, **more)

    def failed(self, items: Sequence[wire.OutputItem], error: Exception) -> wire.ResponseObject:
        code = "server_error" if status_of(error) >= 500 else "invalid_prompt"
        return self._response("failed", items, error=wire.ResponseFailure(code, text_of(error)))

    def _response(self, status: str, items: Sequence[wire.OutputItem], **more: Any) -> wire.ResponseObject:
        nothing = {"completed_at": None, "incomplete_details": None, "error": None, "usage": None}
        return wire.ResponseObject(status=status, output=list(items), **self._same | nothing | more)


def _echo(given: wire.ResponsesRequest) -> dict[str, Any]:
    """What the request says, and for what it does not the values that OpenAI and Ollama tell."""
    text = given.text or wire.TextConfig()
    return {
        "model": given.model or "",
        "previous_response_id": given.previous_response_id or None,
        "instructions": given.instructions or None,
        "tools": [_NULLS | tool if tool.get("type") == "function" else tool for tool in given.tools or ()],
        "tool_choice": given.tool_choice or "auto",
        "truncation": given.truncation or _OFF,
        "parallel_tool_calls": given.parallel_tool_calls is not False,
        "text": wire.TextConfig(format=text.format or _TEXT, verbosity=text.verbosity),
        "top_p": 1 if given.top_p is None else given.top_p,
        "presence_penalty": given.presence_penalty or 0,
        "frequency_penalty": given.frequency_penalty or 0,
        "top_logprobs": given.top_logprobs or 0,
        "temperature": 1 if given.temperature is None else given.temperature,
        "reasoning": wire.ResponseReasoning(given.reasoning.effort, given.reasoning.summary) if given.reasoning else None,
        "max_output_tokens": given.max_output_tokens,
        "max_tool_calls": given.max_tool_calls,
        "store": bool(given.store),
        "background": False,
        "service_tier": tier_told(given),
        "metadata": given.metadata or {},
        "safety_identifier": given.safety_identifier,
        "prompt_cache_key": given.prompt_cache_key,
    }


def _usage(done: Done) -> wire.ResponseUsage:
    return wire.ResponseUsage(
        input_tokens=done.prompt_tokens,
        input_tokens_details=wire.InputTokensDetails(done.cached_tokens),
        output_tokens=done.eval_tokens,
        output_tokens_details=CompletionTokensDetails(done.thought_tokens),
        total_tokens=done.prompt_tokens + done.eval_tokens,
    )

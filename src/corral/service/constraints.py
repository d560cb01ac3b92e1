"""Which grammars a request's answer is to meet. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.parse import AnswerFormat, answer_grammar, call_grammars, call_or_answer_grammar
from corral.service.requests import ChatRequest, InferenceRequest


def check_choice(choice: Sequence[str], stop: Sequence[str]) -> None:
    """Raises BadRequestError for a text to choose that holds a stop string: the answer would end before it."""
    for text in choice:
        if ending := next((ending for ending in stop if ending and ending in text), None):
            raise BadRequestError(
                f'choice: "{text}" has "{ending}" in it, where an answer ends; take it out, or send another option "stop"'
            )


def grammars_of(
    form: AnswerFormat | None, request: InferenceRequest, tools: Sequence[Mapping[str, Any]]
) -> tuple[Grammar, ...]:
    """Raises BadRequestError for a format that cannot be followed, or a tool whose parameters cannot.

    Tools that may be called, with a format besides: the answer is calls, or meets the format. A call that is required is all
    there is to the answer, whatever format there is.
    """
    if not tools or form is None or not isinstance(request, ChatRequest):
        grammar = answer_grammar(request.format, grammar=request.grammar, regex=request.regex, choice=request.choice, form=form)
        return (grammar,) if grammar else ()
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice.mode == "required":
        return call_grammars(form, tools, mode="required", name=choice.name, parallel=parallel)
    if request.format is None and not (request.grammar or request.regex or request.choice):
        calls = call_grammars(form, tools, mode="auto", parallel=parallel)
        return tuple(replace(grammar, dictates=False) for grammar in calls)  # the model has begun the call by itself
    return (
        call_or_answer_grammar(
            form,
            tools,
            request.format,
            grammar=request.grammar,
            regex=request.regex,
            choice=request.choice,
            parallel=parallel,
        ),
    )

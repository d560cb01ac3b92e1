"""POST /v1/completions: prompts of text or of tokens, and their answers as chunks of a stream or in one object."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import uuid4

from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError
from corral.api.exchange import Answer, Exchange, Handler
from corral.api.openai.chat import FINGERPRINT, finish_reason, truncated
from corral.api.openai.choices import MAX_ANSWERS, Choice, Reply, answer
from corral.api.openai.dialect import OPENAI
from corral.api.openai.prompts import Prompt, prompts, texts
from corral.api.openai.tokens import CompletionTokens
from corral.api.openai.values import choice_count, generation, limit, refused, seeded, user_of
from corral.api.services import InferenceService, TokenService
from corral.api.stream import TextEvent, event
from corral.core.errors import BadRequestError
from corral.service.requests import Delta, Done, GenerateRequest
from corral.wire import openai as wire

_REQUEST: Final = RequestDecoder(wire.CompletionRequest, OPENAI)


def completions(inference: InferenceService, tokens: TokenService) -> Handler:
    async def handle(exchange: Exchange) -> Answer | None:
        given, (asked, requests) = await exchange.read(_REQUEST, partial(_asked, client=exchange.client))
        echoes = [""] * len(asked)
        if given.echo:
            first = requests[0]
            echoes = await texts(asked, tokens, model=first.model, keep_alive_s=first.keep_alive_s, client=first.client)
        reply = CompletionReply(given.model or "", [echo for echo in echoes for _ in range(len(requests) // len(asked))])
        return await answer(
            exchange,
            [partial(inference.generate, request) for request in requests],
            reply,
            prompts=len(asked),
            stream=bool(given.stream),
            wants_usage=bool(given.stream_options and given.stream_options.include_usage),
        )

    return handle


# Requests


def _asked(given: wire.CompletionRequest, *, client: str) -> tuple[list[Prompt], list[GenerateRequest]]:
    asked = prompts_of(given.prompt)
    return asked, completion_requests(given, asked, choice_count(given.n), client=client)


def completion_requests(
    given: wire.CompletionRequest, asked: Sequence[Prompt], count: int, *, client: str
) -> list[GenerateRequest]:
    """One for each answer that is wanted, those to one prompt in a row. Raises BadRequestError."""
    _check(given, asked, count)
    common = generation(given)
    common["options"] |= limit("max_tokens", given.max_tokens, least=0)
    request = GenerateRequest(
        suffix=given.suffix or "",
        raw=bool(given.raw),
        logprobs=given.logprobs is not None,
        top_logprobs=given.logprobs or 0,
        client=user_of(client, given),
        **common,
    )
    return [
        replace(one, options=seeded(request.options, index))
        for one in (_with_prompt(request, prompt) for prompt in asked)
        for index in range(count)
    ]


def _with_prompt(request: GenerateRequest, prompt: Prompt) -> GenerateRequest:
    if isinstance(prompt, str):
        return replace(request, prompt=prompt)
    return replace(request, tokens=prompt, raw=True, truncate=False)


def prompts_of(given: Any) -> list[Prompt]:
    """One text or list of tokens for each prompt; where there is none, an empty text."""
    found = prompts("" if given is None else given)
    if found is None:
        raise FieldError("prompt", "prompt must be a text, a list of texts, a list of tokens, or a list of lists of tokens")
    return found or [""]


def _check(given: wire.CompletionRequest, asked: Sequence[Prompt], count: int) -> None:
    """What cannot be had is refused by name."""
    has_tokens = any(not isinstance(prompt, str) for prompt in asked)
    if len(asked) * count > MAX_ANSWERS:
        raise FieldError("prompt", f"{len(asked)} prompts with {count} answers each are more than {MAX_ANSWERS} answers")
    if given.best_of is not None and given.best_of != count:
        raise refused("best_of", "every answer is given; send n alone, or the same value as n")
    if given.echo and given.logprobs is not None:
        raise refused("echo", "the logprobs of a prompt are not computed; send echo or logprobs")
    if given.suffix and has_tokens:
        raise refused("suffix", "a suffix goes with a prompt of text")
    if given.logprobs is not None and given.logprobs < 0:
        raise BadRequestError("logprobs must be 0 or more")


# Answers


class CompletionReply(Reply):
    def __init__(self, model: str, echoes: Sequence[str]) -> None:
        self._echoes = echoes
        self._head: dict[str, Any] = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    def choice(self, index: int) -> "CompletionChoice":
        return CompletionChoice(self, index, self._echoes[index])

    def chunk(self, choices: list[wire.CompletionChoice], **more: Any) -> bytes:
        return event(wire.CompletionChunk(choices=choices, **self._head, **more))

    def usage_chunk(self, used: wire.Usage) -> bytes:
        return self.chunk([], usage=used)

    def whole(self, answers: Sequence[tuple[Delta, Done]], used: wire.Usage) -> wire.Completion:
        choices = [
            wire.CompletionChoice(
                text=echo + said.content,
                index=index,
                finish_reason=finish_reason(done),
                logprobs=CompletionTokens(len(echo)).told(said.logprobs),
                reasoning=said.thinking,
                reasoning_content=said.thinking,
            )
            for index, (echo, (said, done)) in enumerate(zip(self._echoes, answers, strict=True))
        ]
        return wire.Completion(choices=choices, usage=used, **self._head, **truncated([done for _, done in answers]))


class CompletionChoice(Choice):
    """Where the prompt is echoed it stands in the first chunk, before the answer."""

    def __init__(self, reply: CompletionReply, index: int, echo: str) -> None:
        self._reply = reply
        self._index = index
        self._echo = echo
        self._tokens = CompletionTokens(len(echo))
        self._text: TextEvent | None = None

    def chunks(self, delta: Delta) -> bytes:
        if self._echo or delta.thinking or delta.logprobs:
            text, self._echo = self._echo + delta.content, ""
            return self._reply.chunk([self._choice(text, delta)])
        if self._text is None:
            self._text = TextEvent(lambda text: self._reply.chunk([self._choice(text, Delta())]))
        return self._text.fill(delta.content)

    def ending(self, done: Done) -> bytes:
        end = wire.CompletionChoice(text=self._echo, index=self._index, finish_reason=finish_reason(done))
        return self._reply.chunk([end], **truncated([done]))

    def _choice(self, text: str, delta: Delta) -> wire.CompletionChoice:
        return wire.CompletionChoice(
            text=text,
            index=self._index,
            finish_reason=None,
            logprobs=self._tokens.told(delta.logprobs),
            reasoning=delta.thinking,
            reasoning_content=delta.thinking,
        )

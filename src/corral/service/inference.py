"""Chat and generate: from a request to the events of its answer.

Every accepted request ends with a Loaded, a Rendered or a Done event, or with an error. What can be said before a model is
loaded is said before; what only the engine knows (does the prompt fit) before the first event.
The order of the checks is Ollama's. Source: ollama@v0.32 server/routes.go, ChatHandler and GenerateHandler.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, ParamSpec

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import BadRequestError, CapabilityError, ContextOverflowError, ModelNotFoundError, NotSupportedError
from corral.core.options import Options
from corral.sched import Lease, Running, Scheduler
from corral.service.answer import begin, job_for, shortened
from corral.service.models import capabilities
from corral.service.prompt import ChatPrompt, chat_prompt, generate_prompt, generate_size_chars
from corral.service.requests import ChatRequest, Event, GenerateRequest, InferenceRequest, Loaded, Rendered
from corral.store import Model, ModelName, Store

P = ParamSpec("P")
MAX_TOP_LOGPROBS: Final = 20
_BIG_PROMPT_CHARS: Final = 20_000  # rendering more than this would hold the event loop for long


class Inference:
    """The use cases chat and generate."""

    def __init__(self, store: Store, scheduler: Scheduler, *, clock: Clock | None = None) -> None:
        self._store = store
        self._scheduler = scheduler
        self._clock: Clock = clock or SystemClock()
        self._threads = ThreadLimiter("corral-prompt", 2)  # renders, and reads models

    def running(self) -> list[Running]:
        """The models in memory, latest expiry first."""
        return self._scheduler.running()

    def close(self) -> None:
        self._threads.close()

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """The answer to a conversation. Without messages the model is loaded, or with keep_alive_s 0 unloaded."""
        began_ns = self._clock.monotonic_ns()
        _check_logprobs(request)
        if not request.model:
            raise BadRequestError("model is required")
        model = await self._model(request.model)
        if not request.messages and request.keep_alive_s == 0:
            yield await self._unloaded(model)
            return
        _check_chat(model, request)
        options = Options.resolve(model.parameters, request.options)
        if not request.messages:
            yield await self._loaded(model, options, request)
            return
        prompt = chat_prompt(model, request)
        text = await self._rendered(prompt)
        if request.debug_render_only:
            yield _only(Rendered(text))
            return
        if request.tools:
            raise NotSupportedError(
                "tools: this version of Corral does not parse tool calls yet; send the request without tools"
            )
        async with self._lease(model, options, request) as lease, AsyncExitStack() as stack:
            truncation = None
            try:
                job = job_for(lease, options, text, shift=request.shift)
                answer = await begin(stack, lease, job, began_ns=began_ns, clock=self._clock)
            except ContextOverflowError as overflow:
                if not request.truncate:
                    raise
                text, truncation = await shortened(prompt, self._rendered, lease.engine, overflow)
                job = job_for(lease, options, text, shift=request.shift)
                answer = await begin(stack, lease, job, began_ns=began_ns, clock=self._clock)
            answer.truncation = truncation
            yield answer.events()

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """The continuation of a prompt. Without one the model is loaded, or with keep_alive_s 0 unloaded.

        A prompt that does not fit is a ContextOverflowError: there are no turns to drop here.
        """
        began_ns = self._clock.monotonic_ns()
        _check_logprobs(request)
        model = await self._model(request.model)
        if not request.prompt and request.keep_alive_s == 0:
            yield await self._unloaded(model)
            return
        _check_generate(model, request)
        options = Options.resolve(model.parameters, request.options)
        if not request.prompt:
            yield await self._loaded(model, options, request)
            return
        text = await self._sized(generate_size_chars(request), generate_prompt, model, request)
        if request.debug_render_only:
            yield _only(Rendered(text))
            return
        async with self._lease(model, options, request) as lease, AsyncExitStack() as stack:
            job = job_for(lease, options, text, shift=request.shift, prefix_tokens=request.context)
            answer = await begin(stack, lease, job, began_ns=began_ns, clock=self._clock)

            async def context_of(said: str) -> tuple[int, ...]:
                return (*request.context, *await lease.engine.tokenize(text + said, add_special=not request.context))

            yield answer.events(None if request.raw else context_of)

    async def _rendered(self, prompt: ChatPrompt) -> str:
        return await self._sized(prompt.size_chars, prompt.render)

    async def _sized(self, size_chars: int, render: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> str:
        """The rendered text; from a thread where there is so much to render that others would wait for it."""
        if size_chars <= _BIG_PROMPT_CHARS:
            return render(*args, **kwargs)
        return await self._threads.run(render, *args, **kwargs)

    async def _model(self, name: str) -> Model:
        if not name:
            raise ModelNotFoundError(name)
        parsed = ModelName.parse(name)
        try:
            if known := self._store.cached(parsed):
                return known
            return await self._threads.run(self._store.get, parsed)
        except ModelNotFoundError:
            raise ModelNotFoundError(name) from None  # as the client spelled it

    def _lease(self, model: Model, options: Options, request: InferenceRequest) -> AbstractAsyncContextManager[Lease]:
        return self._scheduler.lease(model, options, keep_alive_s=request.keep_alive_s, client=request.client)

    async def _loaded(self, model: Model, options: Options, request: InferenceRequest) -> AsyncIterator[Event]:
        async with self._lease(model, options, request):
            return _only(Loaded("load"))

    async def _unloaded(self, model: Model) -> AsyncIterator[Event]:
        await self._scheduler.unload(model.name)
        return _only(Loaded("unload"))


async def _only(event: Event) -> AsyncIterator[Event]:
    yield event


def _check_logprobs(request: InferenceRequest) -> None:
    if not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise BadRequestError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


def _check_chat(model: Model, request: ChatRequest) -> None:
    can = capabilities(model)
    if "completion" not in can:
        raise CapabilityError(f'"{request.model}" does not support chat')
    _check_common(request, can)
    if request.tools and "tools" not in can:
        raise CapabilityError(f"{model.name.full} does not support tools")
    if any(message.images for message in request.messages):
        _refuse_images(request.model, can)


def _check_generate(model: Model, request: GenerateRequest) -> None:
    can = capabilities(model)
    if request.raw and (request.template or request.system or request.context):
        raise BadRequestError("raw mode does not support template, system, or context")
    if "completion" not in can:
        raise CapabilityError(f'"{request.model}" does not support generate')
    if request.suffix and "insert" not in can:
        raise CapabilityError(f"{model.name.full} does not support insert")
    _check_common(request, can)
    if request.images:
        _refuse_images(request.model, can)


def _check_common(request: InferenceRequest, can: list[str]) -> None:
    if request.think and "thinking" not in can:
        raise CapabilityError(f'"{request.model}" does not support thinking')
    if request.format is not None:
        raise NotSupportedError("format: this version of Corral has no structured output yet; send the request without format")
    if request.logprobs or request.top_logprobs:
        raise NotSupportedError("logprobs: this version of Corral does not report them yet; send the request without logprobs")


def _refuse_images(name: str, can: list[str]) -> None:
    if "vision" not in can:
        raise CapabilityError(f'"{name}" does not support vision')
    raise NotSupportedError("images: this version of Corral does not read images yet; send the request without images")

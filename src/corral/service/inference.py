"""Chat and generate: from a request to the events of its answer.

Every accepted request ends with a Loaded, a Rendered or a Done event, or with an error. What can be said before a model is
loaded is said before; what only the engine knows (does the prompt fit) before the first event.
Rendering that does not end at once counts as waiting, as what comes after it does: a server that has too much of it refuses
more, and clients take turns.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final, ParamSpec, TypeVar

from corral.core.aio import ThreadLimiter
from corral.core.clock import Clock, SystemClock
from corral.core.errors import BadRequestError
from corral.core.options import Options
from corral.sched import Lease, Running, Scheduler
from corral.service.answer import Answer, Ask, begin
from corral.service.checks import check_adapters, check_chat, check_generate, check_logprobs, wanted_logprobs
from corral.service.lookup import ModelLookup
from corral.service.models import capabilities
from corral.service.prompt import Prompt, chat_prompt, generate_prompt, template_of
from corral.service.rendering import Rendering
from corral.service.requests import ChatRequest, Event, GenerateRequest, InferenceRequest, Loaded, Rendered
from corral.service.second_try import tried_twice
from corral.service.shape import Shape, shape_of
from corral.store import Model, Store
from corral.template import MAX_RENDERINGS

P = ParamSpec("P")
R = TypeVar("R")
_LONG_TEMPLATE_CHARS: Final = 4_000  # compiling more than this would hold the event loop for long
_NEVER_SHIFTED: Final = frozenset({"deepseek2"})  # architectures. Source: ollama@v0.32, the default of shift


class Inference:
    """The use cases chat and generate. With `ignores_images`, those for a model that reads none are left out, not refused."""

    def __init__(self, store: Store, scheduler: Scheduler, *, ignores_images: bool = False, clock: Clock | None = None) -> None:
        self._scheduler = scheduler
        self._ignores_images = ignores_images
        self._clock: Clock = clock or SystemClock()
        self._rendering = Rendering()
        self._renderings = scheduler.line(MAX_RENDERINGS)
        self._threads = ThreadLimiter("corral-prompt", 2)  # reads models, and templates that are long
        self._lookup = ModelLookup(store, self._threads)

    def running(self) -> list[Running]:
        """The models in memory, latest expiry first."""
        return self._scheduler.running()

    def close(self) -> None:
        self._rendering.close()
        self._threads.close()

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """The answer to a conversation. Without messages the model is loaded, or with keep_alive_s 0 unloaded."""
        began_ns = self._clock.monotonic_ns()
        check_logprobs(request)
        if not request.model:
            raise BadRequestError("model is required")
        model = await self._lookup.find(request.model)
        if not request.messages and request.keep_alive_s == 0:
            yield await self._unloaded(model)
            return
        can = await self._sized(_template_chars(model), capabilities, model)
        request = _without_vain_thinking(request, can)
        check_chat(model, request, can, ignores_images=self._ignores_images)
        options = Options.resolve(model.parameters, request.options)
        check_adapters(model, options)
        if not request.messages:
            yield await self._loaded(model, options, request)
            return
        prompt = await self._sized(_template_chars(model), chat_prompt, model, request, can)
        thinks = "thinking" in can
        async with self._answered(model, options, request, prompt, began_ns, has_form=thinks or bool(prompt.tools)) as events:
            yield events

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """The continuation of a prompt. Without one the model is loaded, or with keep_alive_s 0 unloaded.

        A prompt that does not fit by itself is a ContextOverflowError: it is one turn, and that is never cut.
        """
        began_ns = self._clock.monotonic_ns()
        check_logprobs(request)
        model = await self._lookup.find(request.model)
        if not request.has_prompt and request.keep_alive_s == 0:
            yield await self._unloaded(model)
            return
        can = await self._sized(_template_chars(model), capabilities, model)
        check_generate(model, request, can, ignores_images=self._ignores_images)
        options = Options.resolve(model.parameters, request.options)
        check_adapters(model, options)
        if not request.has_prompt:
            yield await self._loaded(model, options, request)
            return
        size_chars = _template_chars(model) if request.template is None else len(request.template)
        prompt = await self._sized(size_chars, generate_prompt, model, request, can)
        thinks = "thinking" in can and not request.raw and not request.suffix
        async with self._answered(
            model, options, request, prompt, began_ns, has_form=thinks, has_context=not request.raw
        ) as events:
            yield events

    # From a prompt to its answer

    @asynccontextmanager
    async def _answered(
        self,
        model: Model,
        options: Options,
        request: InferenceRequest,
        prompt: Prompt,
        began_ns: int,
        *,
        has_form: bool,
        has_context: bool = False,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        text = await self._rendered(prompt, request)
        if request.debug_render_only:
            yield _only(Rendered(prompt.shown(text), len(prompt.media)))
            return
        ask = Ask(
            prompt=prompt,
            text=text,
            shape=await self._shape(model, options, request, prompt, has_form=has_form),
            options=options,
            truncate=request.truncate,
            shift=request.shift and model.gguf.architecture not in _NEVER_SHIFTED,
            logprobs=wanted_logprobs(request, options),
            has_context=has_context,
            needs_start=request.needs_start,
            client=request.client,
            priority=request.priority,
            began_ns=began_ns,
        )
        async with AsyncExitStack() as stack:
            answer = await tried_twice(model, lambda: self._begun(stack, model, request, ask))
            yield answer.events()

    async def _shape(
        self, model: Model, options: Options, request: InferenceRequest, prompt: Prompt, *, has_form: bool
    ) -> Shape:
        """Raises BadRequestError for a format or for tools that cannot be followed."""
        template = template_of(model)
        form = await self._rendering.forms.of(template) if has_form else None
        work = partial(shape_of, form, request, prompt.tools, options, call_id_chars=template.call_id_chars)
        is_small = request.format in (None, "json") and not (prompt.tools or request.regex or request.choice)
        return work() if is_small else await self._threads.run(work)

    async def _rendered(self, prompt: Prompt, request: InferenceRequest) -> str:
        text = self._rendering.at_once(prompt)
        if text is not None:
            return text
        async with self._renderings.place(request.client, request.priority):
            return await self._rendering.aside(prompt)

    async def _begun(self, stack: AsyncExitStack, model: Model, request: InferenceRequest, ask: Ask) -> Answer:
        """The answer, and on the stack what it holds; nothing stays on the stack when it could not begin."""
        async with AsyncExitStack() as attempt:
            lease = await attempt.enter_async_context(self._lease(model, ask.options, request))
            answer = await begin(attempt, lease, ask, self._rendering.render, self._clock)
            await stack.enter_async_context(attempt.pop_all())
            return answer

    async def _sized(self, size_chars: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the work gives; from a thread where it has so long a template to compile that others would wait for it."""
        if size_chars <= _LONG_TEMPLATE_CHARS:
            return work(*args, **kwargs)
        return await self._threads.run(work, *args, **kwargs)

    def _lease(self, model: Model, options: Options, request: InferenceRequest) -> AbstractAsyncContextManager[Lease]:
        return self._scheduler.lease(
            model, options, keep_alive_s=request.keep_alive_s, client=request.client, priority=request.priority
        )

    async def _loaded(self, model: Model, options: Options, request: InferenceRequest) -> AsyncIterator[Event]:
        async with self._lease(model, options, request):
            return _only(Loaded("load"))

    async def _unloaded(self, model: Model) -> AsyncIterator[Event]:
        await self._scheduler.unload(model.name)
        return _only(Loaded("unload"))


async def _only(event: Event) -> AsyncIterator[Event]:
    yield event


def _without_vain_thinking(request: ChatRequest, can: Collection[str]) -> ChatRequest:
    """The request, with no thinking where the model cannot and need not."""
    return replace(request, think=None) if request.may_skip_thinking and "thinking" not in can else request


def _template_chars(model: Model) -> int:
    """How long the text is that the model's template is compiled from."""
    return len(model.template or model.gguf.chat_template or "")

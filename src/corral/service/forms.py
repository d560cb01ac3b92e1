"""How models write thoughts and calls: learned from each chat template once, and kept.

Learning renders some conversations, which waits for other processes: it is done in threads, within a budget of time. What went
wrong by no doing of the template's is raised and not kept.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from corral.core.aio import ThreadLimiter
from corral.core.errors import BadRequestError, CorralError
from corral.core.types import Message
from corral.parse import AnswerFormat, learn
from corral.template import ChatTemplate, Conversation, RenderingProcesses

_BUDGET_S: Final = 10.0  # for all renderings of one template: what is not learned by then is taken for not there
_KEPT: Final = 64  # templates


class Forms:
    """The formats of templates, by their sources. `processes` are what Jinja templates are rendered in."""

    def __init__(self, processes: RenderingProcesses, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._now_s = now_s
        self._threads = ThreadLimiter("corral-forms", 2)
        self._known: OrderedDict[tuple[str, str], AnswerFormat] = OrderedDict()

    async def of(self, template: ChatTemplate) -> AnswerFormat:
        """Raises a CorralError where the template could not be rendered by no fault of its own."""
        if known := self._known.get((template.kind, template.source)):
            return known
        return await self._threads.run(self._learned, template)

    def close(self) -> None:
        self._threads.close()

    def _learned(self, template: ChatTemplate) -> AnswerFormat:
        key = (template.kind, template.source)
        if known := self._known.get(key):
            return known
        probe = _Probe(template, self._processes, self._now_s)
        form = learn(probe.render, template.source)
        if probe.trouble:
            raise probe.trouble
        self._known[key] = form
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return form


class _Probe:
    """Renders a template for one who learns from it."""

    def __init__(self, template: ChatTemplate, processes: RenderingProcesses, now_s: Callable[[], float]) -> None:
        self._template = template
        self._processes = processes
        self._now_s = now_s
        self._end_s = now_s() + _BUDGET_S
        self.trouble: CorralError | None = None

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool | str | None = None
    ) -> str:
        if self.trouble or self._now_s() > self._end_s:
            raise BadRequestError("chat template: it takes too long to learn from")
        try:
            conversation = Conversation(messages=tuple(messages), tools=tuple(tools), think=think)
            return self._template.render(conversation, processes=self._processes)
        except BadRequestError:
            raise
        except CorralError as error:
            self.trouble = error
            raise

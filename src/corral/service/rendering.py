"""Renders prompts, and never holds the event loop for it: the async half of the templates, which know nothing of asyncio.

Most prompts are small and most templates harmless, and those are rendered at once. A Go template that turns out to want more
than a moment starts again in a thread, under the wider bounds; a Jinja template waits there for the process that renders it.
A client that leaves is not kept waiting; what has begun for it ends by itself, within the template's bounds. The processes are
this object's own: they end when it is closed.
"""

from typing import Final

from corral.core.aio import ThreadLimiter
from corral.service.forms import Forms
from corral.service.prompt import Prompt
from corral.template import MAX_RENDERINGS, RenderingProcesses, TemplateTooCostlyError

_BIG_PROMPT_CHARS: Final = 20_000  # rendering more than this would hold the event loop for long


class Rendering:
    def __init__(self) -> None:
        self._threads = ThreadLimiter("corral-render", MAX_RENDERINGS)
        self._processes = RenderingProcesses()
        self.forms = Forms(self._processes)

    async def render(self, prompt: Prompt) -> str:
        """The text. Raises BadRequestError with the template's complaint, or where it would take too much time or memory."""
        text = self.at_once(prompt)
        return await self.aside(prompt) if text is None else text

    def at_once(self, prompt: Prompt) -> str | None:
        """The text if it takes no more than a moment. Raises BadRequestError."""
        if prompt.template is None or (prompt.template.kind == "go" and prompt.size_chars <= _BIG_PROMPT_CHARS):
            try:
                return prompt.render(quick=True)
            except TemplateTooCostlyError:
                pass
        return None

    async def aside(self, prompt: Prompt) -> str:
        """The text, however long it takes. Raises BadRequestError."""
        return await self._threads.run(prompt.render, processes=self._processes)

    def close(self) -> None:
        """What is under way ends with an error, so that nothing waits for it."""
        self._threads.close()
        self.forms.close()
        self._processes.close()

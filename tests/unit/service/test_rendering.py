import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

from corral.core.aio import cancelling
from corral.core.errors import BadRequestError, ServerStoppingError
from corral.core.types import Message
from corral.service.prompt import Prompt
from corral.service.rendering import Rendering
from corral.template import CHATML, Conversation, RenderingProcesses, compile_go, compile_jinja

HI = (Message(role="user", content="hi"),)
LOOP = "{{ range 100000000 }}{{ end }}{{ .Prompt }}"
BUSY = "{{ range 30000 }}{{ if true }}{{ end }}{{ end }}{{ .Prompt }}"  # more than a moment, less than the bound


@dataclass
class Spy:
    """A template that notes where it is rendered."""

    kind: Literal["go", "jinja"]
    threads: list[bool] = field(default_factory=list)
    source = ""
    has_tools = has_suffix = has_thinking = False
    call_id_chars = 0

    def render(self, conversation: Conversation, *, quick: bool = False, processes: RenderingProcesses | None = None) -> str:
        self.threads.append(threading.current_thread() is threading.main_thread())
        return "text"


@pytest.fixture
async def rendering() -> AsyncIterator[Rendering]:
    rendering = Rendering()
    yield rendering
    rendering.close()


@pytest.mark.parametrize(
    ("kind", "content", "is_at_once"),
    [("go", "hi", True), ("go", "long " * 10_000, False), ("jinja", "hi", False)],
    ids=["small", "big", "jinja"],
)
async def test_only_small_prompts_of_go_templates_are_rendered_at_once(
    rendering: Rendering, kind: Literal["go", "jinja"], content: str, is_at_once: bool
) -> None:
    spy = Spy(kind)
    prompt = Prompt(messages=(Message(role="user", content=content),), template=spy)
    assert await rendering.render(prompt) == "text"
    assert spy.threads == [is_at_once]


async def test_prompt_without_a_template_is_its_text(rendering: Rendering) -> None:
    assert await rendering.render(Prompt(messages=HI, template=None)) == "hi"


@pytest.mark.parametrize(
    "template", [compile_go(CHATML), compile_go(BUSY), compile_jinja("{{ messages[0].content }}")], ids=["go", "busy", "jinja"]
)
async def test_any_harmless_template_is_rendered(rendering: Rendering, template: Spy) -> None:
    assert "hi" in await rendering.render(Prompt(messages=HI, template=template))


async def test_template_without_an_end_is_refused(rendering: Rendering) -> None:
    with pytest.raises(BadRequestError, match="it may loop without end"):
        await rendering.render(Prompt(messages=HI, template=compile_go(LOOP)))
    assert await rendering.render(Prompt(messages=HI, template=compile_go("{{ .Prompt }}"))) == "hi"


async def test_closing_ends_its_own_processes_and_no_others(rendering: Rendering) -> None:
    prompt = Prompt(messages=HI, template=compile_jinja("{{ messages[0].content }}"))
    other = Rendering()
    assert await rendering.render(prompt) == await other.render(prompt) == "hi"
    (pid,) = other._processes.pids()
    other.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ServerStoppingError):
        await other.render(prompt)
    assert await rendering.render(prompt) == "hi"
    assert len(rendering._processes.pids()) == 1


async def test_closing_tells_whoever_waits_that_the_server_stops() -> None:
    rendering = Rendering()
    endless = Prompt(messages=HI, template=compile_jinja("{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4))
    async with cancelling(rendering.render(endless), name="rendering") as waiting:
        while not rendering._processes._busy:  # noqa: ASYNC110  the process has the job some time later, and tells nobody
            await asyncio.sleep(0.01)
        rendering.close()
        with pytest.raises(ServerStoppingError):
            await waiting

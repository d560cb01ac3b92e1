import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.service.prompt import Prompt
from corral.service.rendering import Rendering
from corral.template import CHATML, Conversation, compile_go, compile_jinja

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

    def render(self, conversation: Conversation, *, quick: bool = False) -> str:
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

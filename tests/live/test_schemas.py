"""Answers of a hot model, held to schemas and made to call tools, through the service and a real worker: all are valid.

SmolLM2 is small enough to babble: what is asked of it is whether the grammar holds, not whether the answer is any good. One
that ends with "length" is cut short, and no more valid than any text that is. So schemas are bounded here, but for those whose
values may be of any depth, and all answers to the others are to be complete. Seeds are fixed, but what they give depends on the
batch:
each run draws others.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.settings import Settings
from corral.core.types import Message, ToolCall
from corral.engine.llamacpp import LlamaCppLauncher
from corral.sched import Scheduler
from corral.service import Inference
from corral.service.requests import ChatRequest, Delta, Done, Think, ToolChoice
from tests.support.schemas import ENDLESS, SCHEMAS, Asked, as_parameters, bounded, faults
from tests.support.shared import shared_files
from tests.support.wardrobe import Wardrobe

CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TEMPLATES: Final = {
    # As Qwen3's: the answer may open a thought; asked not to think, the prompt has an empty one.
    "thinker": CHATML.replace(
        "{{ m.content }}",
        "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}",
    )
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
    # As DeepSeek's: the prompt opens the thought.
    "opener": CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}",
}
# Families that write calls in every kind of form there is.
FAMILIES: Final = (
    "Apertus-8B-Instruct",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "GLM-4.6",
    "Kimi-K2-Instruct",
    "LFM2-8B-A1B",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen3-Coder",
    "deepseek-ai-DeepSeek-V3.1",
    "google-gemma-4-31B-it-interleaved",
    "ibm-granite-granite-3.3-2B-Instruct",
    "meetkai-functionary-medium-v3.2",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "muse-glimmer",
    "openai-gpt-oss-120b",
)
NUM_CTX: Final = 2048
BUDGET: Final = 12  # tokens of a thought
PARALLEL: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    content: str
    thinking: str
    calls: tuple[ToolCall, ...]
    done: Done

    @property
    def is_complete(self) -> bool:
        return self.done.reason == "stop"


@dataclass(frozen=True, slots=True)
class Rig:
    inference: Inference

    async def ask(self, seed: int, question: str, *, model: str = "m", **more: Any) -> Answer:
        options = {"temperature": 1.0, "seed": seed, "num_ctx": NUM_CTX} | more.pop("options", {})
        turns = (Message(role="user", content=question),)
        deltas: list[Delta] = []
        async with self.inference.chat(ChatRequest(model=model, messages=turns, options=options, **more)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return Answer(
                        content="".join(delta.content for delta in deltas),
                        thinking="".join(delta.thinking for delta in deltas),
                        calls=tuple(call for delta in deltas for call in delta.tool_calls),
                        done=event,
                    )
                assert isinstance(event, Delta)
                deltas.append(event)
        raise AssertionError("the answer has no end")


def jinja(paths: Sequence[Any]) -> dict[str, str]:
    return {path.stem: path.read_text() for path in paths if isinstance(path, Path)}


@asynccontextmanager
async def rig_of(folder: Path, gguf: Path) -> AsyncIterator[Rig]:
    store = Wardrobe(folder / "models", gguf, TEMPLATES | jinja(shared_files("testdata/jinja")))
    launcher = LlamaCppLauncher()
    scheduler = Scheduler(launcher, Settings(num_parallel=PARALLEL))
    inference = Inference(store, scheduler)
    try:
        yield Rig(inference)
    finally:
        await scheduler.aclose()
        await launcher.aclose()
        inference.close()


@pytest.fixture
async def rig(tmp_path: Path, smollm2: Path) -> AsyncIterator[Rig]:
    async with rig_of(tmp_path, smollm2) as made:
        yield made


def task(asked: Asked, seed: int) -> str:
    """In turn something to copy, which keeps the model close to the schema, and something to make up."""
    example = json.dumps(asked.value, ensure_ascii=False)
    return f"Say this once more: {example}" if seed % 2 else f"Answer in JSON: {asked.name}. Be brief."


@dataclass(frozen=True, slots=True)
class Held:
    asked: Asked
    schema: Any
    answer: Answer

    @property
    def faults(self) -> list[str]:
        return faults(self.schema, self.answer.content)


async def held(
    rig: Rig, schemas: Sequence[Asked] = SCHEMAS, *, seed: int = 0, model: str = "m", think: Think = None
) -> list[Held]:
    """Each schema is answered once, all at the same time."""
    found: list[Held] = []

    async def one(asked: Asked, seed: int) -> None:
        schema, options = bounded(asked.schema), {"num_predict": 300, "think_budget": BUDGET}
        answer = await rig.ask(seed, task(asked, seed), model=model, format=schema, think=think, options=options)
        found.append(Held(asked, schema, answer))

    async with asyncio.TaskGroup() as group:
        for number, asked in enumerate(schemas, seed):
            group.create_task(one(asked, number))
    return found


def check(found: Sequence[Held]) -> None:
    """All that are complete are valid; all are complete, but for some of those whose schemas have no end."""
    complete = [one for one in found if one.answer.is_complete]
    assert [(one.asked.name, one.answer.content, one.faults) for one in complete if one.faults] == []
    cut = [(one.asked.name, one.answer.content[-80:]) for one in found if not one.answer.is_complete]
    assert [one for one in cut if one[0] not in ENDLESS] == []
    assert len(complete) > 0.9 * len(found)


@pytest.mark.timeout(400)
async def test_answers_meet_their_schemas(rig: Rig) -> None:
    found = await held(rig)
    assert {one.answer.thinking for one in found} == {""}
    check(found)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", ["thinker", "opener"])
async def test_answers_behind_thoughts_meet_their_schemas(rig: Rig, model: str) -> None:
    found = await held(rig, seed=1 + len(model), model=f"m:{model}", think=True)
    assert [one for one in found if "think>" in one.answer.content + one.answer.thinking] == []
    if model == "opener":
        assert sum(bool(one.answer.thinking) for one in found) > 0.9 * len(found)
        assert max(one.answer.done.thought_tokens for one in found) <= BUDGET + len("</think>")
    check(found)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", ["thinker", "opener"])
async def test_answers_of_a_model_that_is_not_to_think_meet_their_schemas(rig: Rig, model: str) -> None:
    found = await held(rig, SCHEMAS[len(model) % 3 :: 3], model=f"m:{model}", think=False)
    assert [one for one in found if one.answer.thinking or "think>" in one.answer.content] == []
    check(found)


# Calls

UNWRITABLE: Final = frozenset({"counted map", "odd keys"})  # as an argument, in some families' calls
WRITABLE: Final = [asked for asked in SCHEMAS if asked.name not in UNWRITABLE]
TOOLS_EACH: Final = 3


@dataclass(frozen=True, slots=True)
class Called:
    family: str
    tools: dict[str, dict[str, Any]]  # parameters by name
    choice: ToolChoice
    parallel: bool
    answer: Answer

    @property
    def faults(self) -> list[str]:
        found: list[str] = []
        for call in self.answer.calls:
            if call.name not in self.tools or self.choice.name not in ("", call.name):
                found.append(f"{call.name} is not to be called")
            else:
                found += faults(self.tools[call.name], json.dumps(call.arguments))
        if not self.parallel and len(self.answer.calls) > 1:
            found.append("there are several calls")
        if self.answer.is_complete and not self.answer.calls:
            found.append("there is no call")
        if self.answer.is_complete and self.answer.content.strip():
            found.append("there is content besides")
        return found


def tools_of(number: int) -> dict[str, dict[str, Any]]:
    chosen = (WRITABLE[(number * TOOLS_EACH + at) % len(WRITABLE)] for at in range(TOOLS_EACH))
    return {f"say_{asked.name.replace(' ', '_')}": as_parameters(bounded(asked.schema)) for asked in chosen}


def definitions(tools: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"type": "function", "function": {"name": name, "description": "Says it.", "parameters": parameters}}
        for name, parameters in tools.items()
    )


@pytest.mark.timeout(400)
async def test_required_calls_meet_their_tools_schemas_in_every_familys_form(rig: Rig) -> None:
    """Any tool, of several or one call, and each by its name."""
    found: list[Called] = []

    async def one(family: str, tools: dict[str, dict[str, Any]], name: str, *, parallel: bool) -> None:
        choice = ToolChoice(mode="required", name=name)
        answer = await rig.ask(
            len(found),
            f"Please call {name or 'a tool'}.",
            model=f"m:{family}",
            tools=definitions(tools),
            tool_choice=choice,
            parallel_tool_calls=parallel,
            options={"num_predict": 250, "think_budget": BUDGET},
        )
        found.append(Called(family, tools, choice, parallel, answer))

    async with asyncio.TaskGroup() as group:
        for number, family in enumerate(FAMILIES):
            tools = tools_of(number)
            for name in ("", *tools):
                group.create_task(one(family, tools, name, parallel=False))
            group.create_task(one(family, tools, "", parallel=True))
    bad = [(one.family, one.choice, one.answer.content, one.answer.calls, one.faults) for one in found if one.faults]
    assert bad == []
    assert sum(one.answer.is_complete for one in found) > 0.8 * len(found)


@pytest.mark.timeout(400)
async def test_answer_that_may_call_is_a_call_or_meets_the_format(rig: Rig) -> None:
    schema = next(asked.schema for asked in SCHEMAS if asked.name == "person")
    families = (
        "Qwen-Qwen2.5-7B-Instruct",
        "meta-llama-Llama-3.1-8B-Instruct",
        "LFM2-8B-A1B",
        "Mistral-Small-3.2-24B-Instruct-2506",
    )
    found: list[Called] = []

    async def one(family: str, tools: dict[str, dict[str, Any]]) -> None:
        answer = await rig.ask(
            len(found),
            "Who?",
            model=f"m:{family}",
            tools=definitions(tools),
            format=bounded(schema),
            options={"num_predict": 250},
        )
        found.append(Called(family, tools, ToolChoice(), True, answer))

    async with asyncio.TaskGroup() as group:
        for number, family in enumerate(families * 3):
            group.create_task(one(family, tools_of(number)))
    for each in found:
        if each.answer.calls:
            assert each.faults == []
        elif each.answer.is_complete:
            assert faults(schema, each.answer.content) == []
    assert sum(one.answer.is_complete for one in found) > 0.8 * len(found)

"""Calls that a hot model is made to write, in the forms of many families, through the service and a real worker: all are valid.

SmolLM2 would hardly ever call by itself: all that makes it is the grammar. A single call ends the answer; of parallel ones a
model that small may find no end, and those that were complete by the limit are what counts.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from corral.service.requests import ToolChoice
from tests.support.live_answers import Answer, Rig, rig_of
from tests.support.schemas import ENDLESS, SCHEMAS, as_parameters, bounded, faults
from tests.support.shared import shared_files

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
    "deepseek-ai-DeepSeek-V3.2",
    "google-gemma-4-31B-it-interleaved",
    "ibm-granite-granite-3.3-2B-Instruct",
    "meetkai-functionary-medium-v3.2",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "muse-glimmer",
    "openai-gpt-oss-120b",
)
UNWRITABLE: Final = frozenset({"counted map", "odd keys"})  # as an argument, in some families' calls
WRITABLE: Final = [asked for asked in SCHEMAS if asked.name not in UNWRITABLE]
ANY: Final = ToolChoice(mode="required")
PERSON: Final = bounded(next(asked.schema for asked in SCHEMAS if asked.name == "person"))
TOOLS_EACH: Final = 2
BUDGET: Final = 12  # tokens of a thought
MOST: Final = 250  # tokens of an answer
MOST_PARALLEL: Final = 80


@pytest.fixture
async def rig(tmp_path: Path, smollm2: Path) -> AsyncIterator[Rig]:
    files = [path for path in shared_files("testdata/jinja") if isinstance(path, Path)]
    if not files:
        pytest.skip("the templates of testdata/jinja are not there")
    async with rig_of(tmp_path, smollm2, {path.stem: path.read_text() for path in files}) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Asking:
    """What one answer is asked for with."""

    family: str
    tools: tuple[str, ...]  # by the schemas of their one argument
    choice: ToolChoice = ANY
    is_parallel: bool = False
    format: Any = None

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """By the tools' names."""
        schemas = {asked.name: asked.schema for asked in WRITABLE}
        return {tool_name(name): as_parameters(bounded(schemas[name])) for name in self.tools}

    @property
    def is_endless(self) -> bool:
        return self.is_parallel or not ENDLESS.isdisjoint(self.tools)

    async def answer(self, rig: Rig, seed: int) -> "Called":
        definitions = [
            {"type": "function", "function": {"name": name, "description": "Says it.", "parameters": parameters}}
            for name, parameters in self.parameters.items()
        ]
        answer = await rig.ask(
            seed,
            f"Please call {self.choice.name or 'a tool'}." if self.choice.mode == "required" else "Who?",
            model=f"m:{self.family}",
            tools=tuple(definitions),
            tool_choice=self.choice,
            parallel_tool_calls=self.is_parallel,
            format=self.format,
            options={"num_predict": MOST_PARALLEL if self.is_endless else MOST, "think_budget": BUDGET},
        )
        return Called(self, answer)


@dataclass(frozen=True, slots=True)
class Called:
    asking: Asking
    answer: Answer

    @property
    def faults(self) -> list[str]:
        """Of all calls; and of what is beside them, where the answer is complete."""
        found: list[str] = []
        asking, calls, is_complete = self.asking, self.answer.calls, self.answer.is_complete
        parameters = asking.parameters
        for call in calls:
            if call.name not in parameters or asking.choice.name not in ("", call.name):
                found.append(f"{call.name} is not to be called")
            else:
                found += faults(parameters[call.name], json.dumps(call.arguments))
        if not asking.is_parallel and len(calls) > 1:
            found.append("there are several calls")
        if is_complete and calls and self.answer.content.strip():
            found.append("there is content besides")
        if is_complete and not calls:
            found += ["there is no call"] if asking.format is None else faults(asking.format, self.answer.content)
        if not is_complete and not asking.is_endless:
            found.append("it has no end")
        return found

    @property
    def told(self) -> tuple[Any, ...]:
        return self.asking, self.answer.content[-200:], self.answer.calls, self.faults


def tool_name(name: str) -> str:
    return f"say_{name.replace(' ', '_')}"


def tools_of(number: int) -> tuple[str, ...]:
    return tuple(WRITABLE[(number * TOOLS_EACH + at) % len(WRITABLE)].name for at in range(TOOLS_EACH))


def required() -> Iterator[Asking]:
    """Of each family any call, one by its name, and several."""
    for number, family in enumerate(FAMILIES):
        any_of, other = tools_of(2 * number), tools_of(2 * number + 1)
        yield Asking(family, any_of)
        yield Asking(family, other, ToolChoice(mode="required", name=tool_name(other[number % TOOLS_EACH])))
        yield Asking(family, any_of, is_parallel=True)


def allowed() -> Iterator[Asking]:
    """A call may be made; else the answer is to meet a format."""
    families = (
        "Qwen-Qwen2.5-7B-Instruct",
        "meta-llama-Llama-3.1-8B-Instruct",
        "LFM2-8B-A1B",
        "Mistral-Small-3.2-24B-Instruct-2506",
    )
    for number, family in enumerate(families * 3):
        yield Asking(family, tools_of(number), ToolChoice(), is_parallel=number >= 2 * len(families), format=PERSON)


async def answered(rig: Rig, askings: Sequence[Asking], seed: int) -> list[Called]:
    """All at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asking.answer(rig, seed + at)) for at, asking in enumerate(askings)]
    return [task.result() for task in tasks]


@pytest.mark.timeout(400)
async def test_required_calls_meet_their_tools_schemas_in_every_familys_form(rig: Rig) -> None:
    """Any tool, each by its name, and several calls."""
    found = await answered(rig, list(required()), seed=0)
    assert [one.told for one in found if one.faults] == []
    assert sum(bool(one.answer.calls) for one in found) > 0.8 * len(found)


@pytest.mark.timeout(400)
async def test_answer_that_may_call_is_a_call_or_meets_the_format(rig: Rig) -> None:
    found = await answered(rig, list(allowed()), seed=100)
    assert [one.told for one in found if one.faults] == []

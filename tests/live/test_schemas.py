"""Answers of a hot model, held to schemas, through the service and a real worker: all are valid, thinking on and off.

SmolLM2 is small enough to babble: what is asked of it is whether the grammar holds, not whether the answer is any good. One
that ends with "length" is cut short, and no more valid than any text that is. So schemas are bounded here, but for those whose
values may be of any depth, and all answers to the others are to be complete. Seeds are fixed, but what they give depends on
the batch: each run draws others.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from corral.service.requests import Think
from tests.support.live_answers import Answer, Rig, rig_of
from tests.support.schemas import ENDLESS, SCHEMAS, Asked, bounded, faults

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
BUDGET: Final = 12  # tokens of a thought
MOST: Final = 300  # tokens of an answer
MOST_ENDLESS: Final = 100


@pytest.fixture
async def rig(tmp_path: Path, smollm2: Path) -> AsyncIterator[Rig]:
    async with rig_of(tmp_path, smollm2, TEMPLATES) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Held:
    asked: Asked
    schema: Any
    model: str
    answer: Answer

    @property
    def faults(self) -> list[str]:
        return faults(self.schema, self.answer.content)


def task(asked: Asked, seed: int) -> str:
    """In turn something to copy, which keeps the model close to the schema, and something to make up."""
    example = json.dumps(asked.value, ensure_ascii=False)
    return f"Say this once more: {example}" if seed % 2 else f"Answer in JSON: {asked.name}. Be brief."


async def held(rig: Rig, models: Sequence[str], *, seed: int, think: Think) -> list[Held]:
    """Each schema is answered once, by the models in turn, all at the same time."""
    found: list[Held] = []

    async def one(asked: Asked, seed: int, model: str) -> None:
        schema = bounded(asked.schema)
        options = {"num_predict": MOST_ENDLESS if asked.name in ENDLESS else MOST, "think_budget": BUDGET}
        can_think = think if model != "m" else None
        answer = await rig.ask(seed, task(asked, seed), model=model, format=schema, think=can_think, options=options)
        found.append(Held(asked, schema, model, answer))

    async with asyncio.TaskGroup() as group:
        for number, asked in enumerate(SCHEMAS, seed):
            group.create_task(one(asked, number, models[(number // 2) % len(models)]))
    return found


def check(found: Sequence[Held]) -> None:
    """All that are complete are valid; all are complete, but for some of those whose schemas have no end.

    A tag in the answer would make it invalid. In a thought a model may open another one, but not end it.
    """
    assert len(found) == len(SCHEMAS) >= 60
    complete = [one for one in found if one.answer.is_complete]
    assert [(one.asked.name, one.answer.content, one.faults) for one in complete if one.faults] == []
    cut = [(one.asked.name, one.answer.content[-80:]) for one in found if not one.answer.is_complete]
    assert [one for one in cut if one[0] not in ENDLESS] == []
    assert [one for one in found if "</think>" in one.answer.thinking] == []


@pytest.mark.timeout(400)
async def test_answers_without_a_thought_meet_their_schemas(rig: Rig) -> None:
    found = await held(rig, ("m", "m:thinker", "m:opener"), seed=0, think=False)
    assert {one.answer.thinking for one in found} == {""}
    check(found)


@pytest.mark.timeout(400)
async def test_answers_behind_thoughts_meet_their_schemas(rig: Rig) -> None:
    found = await held(rig, ("m:thinker", "m:opener"), seed=1, think=True)
    opened = [one.answer for one in found if one.model == "m:opener"]
    assert sum(bool(answer.thinking) for answer in opened) > 0.9 * len(opened)
    assert max(answer.done.thought_tokens for answer in opened) <= BUDGET + len("</think>")
    check(found)

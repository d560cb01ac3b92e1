"""A conversation of 30 turns over a context of 4096 tokens, with a real engine: what is cached, what goes, what is told."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from corral.core.errors import ContextOverflowError
from corral.core.types import Message
from corral.service.requests import ChatRequest, Delta, Done
from tests.live.test_inference import Rig, rig_of
from tests.support.gguf_files import write_scripted

NUM_CTX: Final = 4096
CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
ANSWER: Final = "Quite so, my dear friend."
SYSTEM: Final = Message(role="system", content="You are terse.")


@dataclass(frozen=True, slots=True)
class Turn:
    sent: tuple[Message, ...]
    said: str
    first: Delta
    done: Done


def question(number: int) -> str:
    """Of some 250 tokens, another one for each number."""
    return f"Question {number}: " + "what do you make of it? " * 10


async def conversation(rig: Rig, turns: int, **more: object) -> list[Turn]:
    messages: tuple[Message, ...] = (SYSTEM,)
    seen: list[Turn] = []
    for number in range(turns):
        messages = (*messages, Message(role="user", content=question(number)))
        turn = await chat(rig, messages, **more)
        seen.append(turn)
        messages = (*messages, Message(role="assistant", content=turn.said))
    return seen


async def chat(rig: Rig, messages: tuple[Message, ...], **more: object) -> Turn:
    deltas: list[Delta] = []
    request = ChatRequest(model="m", messages=messages, options={"num_ctx": NUM_CTX, "temperature": 0}, **more)  # type: ignore[arg-type]
    async with rig.inference.chat(request) as events:
        async for event in events:
            if isinstance(event, Done):
                return Turn(messages, "".join(delta.content for delta in deltas), deltas[0], event)
            assert isinstance(event, Delta)
            deltas.append(event)
    raise AssertionError("the answer has no end")


async def tokens_of(rig: Rig, messages: tuple[Message, ...]) -> int:
    """Of the whole conversation, as the engine that answers it counts them."""
    request = ChatRequest(model="m", messages=messages, debug_render_only=True)
    async with rig.inference.chat(request) as events:
        rendered = await anext(events)
    return len(await rig.engine.tokenize(rendered.prompt))  # type: ignore[union-attr]  # asked for as such


@pytest.mark.timeout(120)
async def test_conversation_longer_than_its_context(tmp_path: Path) -> None:
    async with rig_of(tmp_path, write_scripted(tmp_path / "m.gguf", ANSWER, jinja=CHATML)) as rig:
        turns = await conversation(rig, 30)
        totals = [await tokens_of(rig, turn.sent) for turn in turns]
    assert [turn.said for turn in turns] == [ANSWER] * 30
    assert [turn.done.reason for turn in turns] == ["stop"] * 30
    whole = [turn for turn, total in zip(turns, totals, strict=True) if total < NUM_CTX]
    cut = turns[len(whole) :]
    assert (len(whole) > 10, len(cut) > 10) == (True, True)

    for turn, total in zip(turns, totals, strict=True):
        facts = turn.done.truncation
        assert turn.first.truncation == facts
        if turn in whole:
            assert facts is None
            assert turn.done.prompt_tokens == total
        else:
            assert facts
            assert facts.prompt_tokens_total == total
            assert facts.dropped_messages % 2 == 0, "whole turns go"
            left = (SYSTEM, *turn.sent[1 + facts.dropped_messages :])
            assert turn.done.prompt_tokens == totals[len(left) // 2 - 1] + digits(left), "no other message went"
            assert NUM_CTX // 2 < turn.done.prompt_tokens < NUM_CTX

    for before, after in pairwise(whole):
        assert after.done.cached_tokens >= before.done.prompt_tokens, "the answer before is the only news"
    goes_on = [after.done.cached_tokens >= before.done.prompt_tokens for before, after in pairwise(cut)]
    assert sum(goes_on) / len(goes_on) > 0.7


def digits(left: tuple[Message, ...]) -> int:
    """How many tokens more a conversation has whose questions have numbers of two digits, beside the first ones."""
    questions = [message.content for message in left if message.role == "user"]
    return sum(len(one) - len(question(number)) for number, one in enumerate(questions))


async def test_conversation_that_may_not_be_cut_is_refused_with_both_numbers(tmp_path: Path) -> None:
    messages = (SYSTEM, *(Message(role=role, content=question(0)) for role in ("user", "assistant") * 12), user(question(1)))
    async with rig_of(tmp_path, write_scripted(tmp_path / "m.gguf", ANSWER, jinja=CHATML)) as rig:
        with pytest.raises(ContextOverflowError, match=r"request \(6\d\d\d tokens\) exceeds .* \(4096 tokens\)"):
            await chat(rig, messages, truncate=False)
        with pytest.raises(ContextOverflowError):
            await chat(rig, (SYSTEM, user(question(0)), user(question(1) * 20)))
        assert (await chat(rig, messages)).done.truncation


def user(text: str) -> Message:
    return Message(role="user", content=text)

"""Over-long chats lose whole old turns, and nothing else; which ones changes seldom while they grow."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.types import Message
from corral.service.fit import dropped_to_fit


def chat(*turns: str) -> list[Message]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "d": "developer"}
    return [Message(role=names[turn[0]], content=turn) for turn in turns]


class Tokens:
    """Counts a token for each character, and so many besides."""

    def __init__(self, besides: int = 0) -> None:
        self.besides = besides
        self.asked = 0

    async def __call__(self, messages: Sequence[Message]) -> int:
        self.asked += 1
        return self.besides + sum(len(message.content) for message in messages)


async def kept_of(messages: Sequence[Message], num_ctx: int, tokens: Tokens | None = None) -> list[Message] | None:
    tokens = tokens or Tokens()
    total = await tokens(messages)
    tokens.asked = 0
    return await dropped_to_fit(messages, tokens, total=total, num_ctx=num_ctx)


@pytest.mark.parametrize(
    ("turns", "num_ctx", "kept"),
    [
        (["s1", "u1", "a1", "u2", "a2", "u3"], 11, ["s1", "u2", "a2", "u3"]),
        (["s1", "u1", "a1", "u2", "a2", "u3"], 5, ["s1", "u3"]),
        (["u1", "a1", "t1", "a1", "u2", "a2", "t2"], 9, ["u2", "a2", "t2"]),
        (["u1", "s1", "a1", "u2"], 6, ["s1", "u2"]),
        (["u1", "d1", "a1", "u2"], 6, ["d1", "u2"]),
        (["a0", "u1", "a1", "u2"], 8, ["u1", "a1", "u2"]),
    ],
    ids=[
        "oldest turn",
        "two turns",
        "tool results go with their turn",
        "system stays in place",
        "developer does too",
        "opening answer is a turn",
    ],
)
async def test_oldest_turns_go_first_and_whole(turns: list[str], num_ctx: int, kept: list[str]) -> None:
    result = await kept_of(chat(*turns), num_ctx)
    assert result is not None
    assert [m.content for m in result] == kept


@pytest.mark.parametrize("turns", [("u1", "a1", "u22222"), ("u22222",), ("s1", "s2", "s3"), ("u1", "a1", "u2", "a2", "t222")])
async def test_a_last_turn_that_does_not_fit_is_not_cut(turns: tuple[str, ...]) -> None:
    assert await kept_of(chat(*turns), 6) is None


async def test_a_long_chat_is_measured_a_few_times_only() -> None:
    tokens = Tokens()
    result = await kept_of(chat(*["u" * 10, "a" * 10] * 500, "u"), 1000, tokens)
    assert result is not None
    assert tokens.asked <= 4


@pytest.mark.parametrize("besides", [0, 2000, 2800, 3600], ids=["little", "half", "much", "nearly all"])
async def test_same_turns_are_gone_for_several_turns(besides: int) -> None:
    """What must stay takes so much of the context; a prompt goes on from the last one wherever the same turns are gone."""
    num_ctx, turn = 4096, 30
    cuts: list[int] = []
    for count in range(300):
        messages = chat(*["u" * turn, "a" * turn] * count, "u" * turn)
        if besides + sum(len(message.content) for message in messages) < num_ctx:
            continue
        kept = await kept_of(messages, num_ctx, Tokens(besides))
        assert kept is not None
        left = besides + sum(len(message.content) for message in kept)
        assert num_ctx * 5 // 8 - 2 * turn <= left < num_ctx
        cuts.append(len(messages) - len(kept))
    stays = sum(one == other for one, other in pairwise(cuts)) / (len(cuts) - 1)
    assert stays >= (0.9 if besides < 3000 else 0.7)
    assert cuts == sorted(cuts)


async def test_a_long_turn_does_not_go_for_a_little_room() -> None:
    messages = chat("u" * 50, "a" * 50, "u" * 700, "a" * 200, "u" * 20)
    kept = await kept_of(messages, 1000)
    assert kept == messages[2:]


@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    besides=st.integers(0, 900),
    num_ctx=st.integers(1, 1000),
)
async def test_what_is_left_fits_wherever_anything_does(sizes: list[int], besides: int, num_ctx: int) -> None:
    """Turns of any sizes: the last stays, no other but the oldest go, and none where it must not."""
    messages = chat(*("u" + "x" * size for size in sizes))
    tokens = Tokens(besides)
    total = await tokens(messages)
    if total < num_ctx:
        return
    kept = await dropped_to_fit(messages, tokens, total=total, num_ctx=num_ctx)
    least = await tokens(messages[-1:])
    assert (kept is None) == (least >= num_ctx or len(messages) == 1)
    if kept is not None:
        assert kept == messages[-len(kept) :]
        assert await tokens(kept) < num_ctx
        one_more = messages[-len(kept) - 1 :]
        assert await tokens(one_more) > num_ctx * 3 // 8

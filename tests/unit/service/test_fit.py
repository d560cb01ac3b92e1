"""Over-long chats lose whole old turns, and nothing else."""

from collections.abc import Sequence

import pytest

from corral.core.types import Message
from corral.service.fit import dropped_to_fit


def chat(*turns: str) -> list[Message]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [Message(role=names[turn[0]], content=turn) for turn in turns]


class Fits:
    def __init__(self, count: int) -> None:
        self.count = count
        self.asked = 0

    async def __call__(self, messages: Sequence[Message]) -> bool:
        self.asked += 1
        return len(messages) <= self.count


@pytest.mark.parametrize(
    ("turns", "room", "kept"),
    [
        (["s", "u1", "a1", "u2", "a2", "u3"], 4, ["s", "u2", "a2", "u3"]),
        (["s", "u1", "a1", "u2", "a2", "u3"], 3, ["s", "u3"]),
        (["u1", "a1", "t1", "a1b", "u2", "a2", "t2"], 4, ["u2", "a2", "t2"]),
        (["u1", "s", "a1", "u2"], 2, ["s", "u2"]),
        (["a0", "u1", "a1", "u2"], 3, ["u1", "a1", "u2"]),
    ],
    ids=["oldest turn", "two turns", "tool results go with their turn", "system stays in place", "opening answer is a turn"],
)
async def test_oldest_turns_go_first_and_whole(turns: list[str], room: int, kept: list[str]) -> None:
    result = await dropped_to_fit(chat(*turns), Fits(room))
    assert result is not None
    assert [m.content for m in result] == kept


async def test_a_last_turn_that_does_not_fit_is_not_cut() -> None:
    assert await dropped_to_fit(chat("u1", "a1", "u2"), Fits(0)) is None
    assert await dropped_to_fit(chat("u1"), Fits(0)) is None


async def test_a_long_chat_is_measured_a_few_times_only() -> None:
    fits = Fits(101)
    result = await dropped_to_fit(chat(*["u", "a"] * 500, "u"), fits)
    assert result is not None
    assert len(result) == 101
    assert fits.asked <= 11

"""Making an over-long conversation fit: what is oldest goes, and the caller is told.

Of messages whole old turns go; system messages always stay, and the last turn, which is the last user message and all that
follows it. Of a conversation that is there as tokens the older part goes, but for its first tokens.
When the last turn alone does not fit, nothing is cut: the request fails with both numbers.

Somewhat more goes than must: if each turn made another one go, no prompt would begin as the last one did, and all would be
computed anew. So tokens go by the quarter of the context, counted from the conversation's beginning: as long as the same
quarters do, the same turns are gone, with nothing remembered between requests. There is room for an answer then, too.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from corral.core.types import Message

Count = Callable[[Sequence[Message]], Awaitable[int]]
_STEPS: Final = (4, 8, 16, 32)  # to a context; shorter ones where what must stay leaves no room for longer ones
_STAYS: Final = ("system", "developer")  # roles


def droppable_turns(messages: Sequence[Message]) -> list[list[int]]:
    """Indices of the messages that may be dropped, grouped by turn, oldest first. A turn begins with a user message."""
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=len(messages) - 1)
    turns: list[list[int]] = []
    for index in range(last_user):
        message = messages[index]
        if message.role in _STAYS:
            continue
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns


async def dropped_to_fit(messages: Sequence[Message], count: Count, *, total: int, num_ctx: int) -> list[Message] | None:
    """The messages without their oldest turns, of `total` tokens with them and fewer than `num_ctx` without.

    None when even the last turn does not fit. `count` tells the tokens of messages, and is asked a few times.
    """
    turns = droppable_turns(messages)
    counts: dict[int, int] = {}

    def without(dropped: int) -> list[Message]:
        gone = {index for turn in turns[:dropped] for index in turn}
        return [m for i, m in enumerate(messages) if i not in gone]

    async def least_to(most: int) -> int | None:
        """Turns to drop for so many tokens at most."""

        async def fits(dropped: int) -> bool:
            if dropped not in counts:
                counts[dropped] = await count(without(dropped))
            return counts[dropped] <= most

        return await _least(len(turns), fits, guess=_guess(messages, turns, (total - most) / total))

    for steps in _STEPS:
        step = max(1, num_ctx // steps)
        must_go = total - (num_ctx - 1 - step // 2)
        goal = total - -(-must_go // step) * step
        dropped = await least_to(goal)
        if dropped is not None and counts[dropped] >= goal - step:  # else a long turn would go for little
            return without(dropped)
    dropped = await least_to(num_ctx - 1)
    return None if dropped is None else without(dropped)


async def _least(most: int, fits: Callable[[int], Awaitable[bool]], *, guess: int) -> int | None:
    """The least number from 1 to `most` that fits, as all greater ones do; None where none does."""
    low, high = 1, most + 1  # it is none below `low`, and `high` or less
    step = 1
    while low < high:
        if low > 1 and high <= most:
            guess = (low + high) // 2
        guess = min(max(guess, low), high - 1)
        if await fits(guess):
            high = guess
            guess -= step
        else:
            low = guess + 1
            guess += step
        step *= 2
    return high if high <= most else None


def _guess(messages: Sequence[Message], turns: Sequence[Sequence[int]], share: float) -> int:
    """How many turns have that share of all tokens, by the length of their texts."""
    sizes = [len(message.content) + len(message.thinking) for message in messages]
    wanted = share * sum(sizes)
    for number, turn in enumerate(turns, 1):
        wanted -= sum(sizes[index] for index in turn)
        if wanted <= 0:
            return number
    return max(1, len(turns))


def cut_to_fit(tokens: tuple[int, ...], *, keep: int, new_tokens: int, num_ctx: int) -> tuple[int, ...] | None:
    """The conversation's tokens without the older part of what comes after the first `keep`; a negative `keep` keeps all.

    With the `new_tokens` of the prompt they fill half of the context, so that the next turns go on from what is cached.
    None where they cannot fit.
    """
    stays = len(tokens) if keep < 0 else min(keep, len(tokens))
    if stays + new_tokens >= num_ctx:
        return None
    newest = max(num_ctx // 2 - stays - new_tokens, 0)
    return tokens[:stays] + tokens[max(len(tokens) - newest, stays) :]

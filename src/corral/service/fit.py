"""Making an over-long conversation fit: what is oldest goes, and the caller is told.

Of messages whole old turns go; system messages always stay, and the last turn, which is the last user message and all that
follows it. Of a conversation that is there as tokens the older part goes, but for its first tokens.
When the last turn alone does not fit, nothing is cut: the request fails with both numbers.
"""

from collections.abc import Awaitable, Callable, Sequence

from corral.core.types import Message

Fits = Callable[[Sequence[Message]], Awaitable[bool]]


def droppable_turns(messages: Sequence[Message]) -> list[list[int]]:
    """Indices of the messages that may be dropped, grouped by turn, oldest first. A turn begins with a user message."""
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=len(messages) - 1)
    turns: list[list[int]] = []
    for index in range(last_user):
        message = messages[index]
        if message.role == "system":
            continue
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns


async def dropped_to_fit(messages: Sequence[Message], fits: Fits) -> list[Message] | None:
    """The messages without the fewest oldest turns that make them fit; None when even the last turn does not.

    `fits` is asked a logarithmic number of times.
    """
    turns = droppable_turns(messages)

    def without(count: int) -> list[Message]:
        gone = {index for turn in turns[:count] for index in turn}
        return [m for i, m in enumerate(messages) if i not in gone]

    if not turns or not await fits(without(len(turns))):
        return None
    low, high = 1, len(turns)  # dropping `high` turns fits; fewer than `low` is known not to
    while low < high:
        middle = (low + high) // 2
        if await fits(without(middle)):
            high = middle
        else:
            low = middle + 1
    return without(high)


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

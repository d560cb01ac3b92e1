"""How the prompts that are being read share a step: by priority, then evenly among clients, then evenly among one client's.

What a short prompt or a client with little to read leaves goes to the others. Pure.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from corral.engine.llamacpp.worker.batch.generation import Generation

_LATER: Final = 8  # one of so many parts of a step is for prompts of later priorities
_LEAST_PIECE: Final = 8  # tokens of a prompt: where there is less for each, some wait

Shares = Iterator[tuple[Generation, int]]


def shares(reading: Collection[Generation], budget: int) -> Shares:
    """Pieces of the prompts, of `budget` tokens together at most: none is empty, and no prompt comes twice."""
    ranks: defaultdict[int, list[Generation]] = defaultdict(list)
    for generation in reading:
        ranks[generation.urgency].append(generation)
    left = budget
    for index, urgency in enumerate(sorted(ranks)):
        rank, is_last = ranks[urgency], index == len(ranks) - 1
        for generation, size in _by_client(rank, left if is_last else left - left // _LATER):
            left -= size
            yield generation, size


def _by_client(reading: Collection[Generation], budget: int) -> Shares:
    clients: defaultdict[str, list[Generation]] = defaultdict(list)
    for generation in reading:
        clients[generation.job.client].append(generation)
    rest = sorted(clients.values(), key=_missing)
    for index, prompts in enumerate(rest):
        share = _least(budget, len(rest) - index)
        for generation, size in _by_length(prompts, share):
            budget -= size
            yield generation, size


def _by_length(prompts: Collection[Generation], budget: int) -> Shares:
    """The short ones first, so that what they leave is known."""
    rest = sorted(prompts, key=lambda generation: generation.missing)
    for index, generation in enumerate(rest):
        if size := min(generation.missing_text, _least(budget, len(rest) - index)):
            budget -= size
            yield generation, size


def _least(budget: int, among: int) -> int:
    return max(budget // among, min(budget, _LEAST_PIECE))


def _missing(prompts: Collection[Generation]) -> int:
    return sum(generation.missing for generation in prompts)

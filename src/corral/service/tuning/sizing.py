"""How much is asked of each engine, so that all of them are measured within the time that there is. Pure."""

from dataclasses import dataclass
from typing import Final

from corral.wire.tuning import TuneLoad

STREAMS: Final = 8
LEAST_ROUNDS: Final = 2
_PROMPT: Final = 1500
_LEAST_PROMPT: Final = 128
_ANSWER: Final = 32
_LEAST_ANSWER: Final = 12
_STEPS: Final = 4  # each asks half as much as the one before
_OWN: Final = 16  # a prompt of several is so much shorter than the long one
_GAIN_TOGETHER: Final = 2.0  # tokens a second of several streams, beside one: a guess, on the safe side
_SHARE: Final = 0.8  # of the budget is planned; the rest is for what takes longer than it was thought


@dataclass(frozen=True, slots=True)
class Pace:
    """How quick the default settings are, roughly."""

    load_s: float
    prompt_tokens_per_s: float
    answer_tokens_per_s: float


def sized(pace: Pace, *, budget_s: float, rounds: int, candidates: int, num_ctx: int, streams: int) -> tuple[TuneLoad, int]:
    """The load, and how many candidates fit into the time, the default settings among them, at that many rounds or fewer.

    A model that is too slow for all is asked less of, then in fewer rounds, and then fewer candidates are measured.
    """
    most = min(_PROMPT, num_ctx // 2)
    least = min(_LEAST_PROMPT, most)
    budget_s *= _SHARE
    for turns in range(rounds, min(rounds, LEAST_ROUNDS) - 1, -1):
        for step in range(_STEPS):
            load = TuneLoad(
                rounds=turns,
                prompt_tokens=max(least, most >> step),
                own_prompt_tokens=max(8, max(least, most >> step) // _OWN),
                answer_tokens=max(_LEAST_ANSWER, _ANSWER >> step),
                streams=streams,
            )
            if cost_s(load, pace) * turns * (candidates + 1) <= budget_s:  # one more: those that gain, together
                return load, candidates
    return load, max(2, int(budget_s / (cost_s(load, pace) * load.rounds)) - 1)


def cost_s(load: TuneLoad, pace: Pace) -> float:
    """What one measurement of one engine takes."""
    prompt_tokens = load.prompt_tokens + load.streams * load.own_prompt_tokens
    answer_tokens = load.answer_tokens * (1 + 2 * load.streams / _GAIN_TOGETHER)
    return pace.load_s + prompt_tokens / pace.prompt_tokens_per_s + answer_tokens / pace.answer_tokens_per_s

"""The words that requests are made of: the same ones for the same key, and of about so many tokens.

A key is any text; what is drawn for one key shares no beginning with what is drawn for another, so that a server's prompt cache
finds only what a workload means it to find. The words are short and common: nearly every vocabulary has each as one token.
"""

import random
from collections.abc import Sequence
from typing import Final

_WORDS: Final = (  # noqa: SIM905  a list of them would be a page
    "the of and to in is was for on that with as by at from his her they this have not are but had which one you all were when "
    "we there can an your more will who what up out about time then them some like into see him could make than first been its "
    "now people way find long down day did get come made may part over new sound take only little work know place year live "
    "give most very after thing our just name good man think say great where help through much before line right too means old "
    "any same tell boy follow came want show also around form three small set put end does another well large must big even "
    "because turn here why ask went men read need land home us move try kind hand picture again change off play spell air away "
    "animal house point page letter mother answer found study still learn should world high every near add food between own"
).split()
_TOPICS: Final = (
    "a lighthouse",
    "the sea",
    "a small town",
    "winter",
    "old trains",
    "a garden",
    "the night sky",
    "bread",
    "a river",
)
_TASKS: Final = (
    "Tell me a story about {}.",
    "Explain to a child what is special about {}.",
    "Write a letter to a friend about {}.",
    "Describe {} for somebody who has never seen it.",
    "What should everybody know about {}? Answer at length.",
)
_KINDS: Final = ("lamp", "chair", "clock", "basket", "kettle", "ladder", "mirror", "blanket", "bucket", "drum")
_COLOURS: Final = ("red", "blue", "green", "white", "black", "brown", "grey", "yellow")
_PLACES: Final = ("the kitchen", "the hall", "the cellar", "the garden", "the workshop", "the attic", "the office")
_NAMES: Final = ("Miller", "Baker", "Carter", "Fisher", "Hunter", "Mason", "Porter", "Turner", "Walker", "Cooper")
_SENTENCE_WORDS: Final = 12
_SENTENCE_TOKENS: Final = _SENTENCE_WORDS + 1  # with its full stop
_LINE_TOKENS: Final = 19  # of a line of an inventory, as common vocabularies count


def drawing(*key: object) -> random.Random:
    """A source of choices that are the same for the same key."""
    return random.Random("/".join(map(str, key)))  # noqa: S311  for texts and times, not for secrets


def filler(draw: random.Random, tokens: int) -> str:
    """Sentences without sense, of about so many tokens."""
    whole, rest = divmod(max(1, tokens), _SENTENCE_TOKENS)
    lengths = [_SENTENCE_WORDS] * whole + ([rest - 1 or 1] if rest else [])
    return " ".join(f"{' '.join(draw.choices(_WORDS, k=length)).capitalize()}." for length in lengths)


def question(draw: random.Random) -> str:
    """Something to write at length about. It begins with a number of its own: no two questions share a beginning."""
    return f"{draw.randrange(10**6):06d}. {draw.choice(_TASKS).format(draw.choice(_TOPICS))}"


def inventory(draw: random.Random, tokens: int) -> tuple[str, str, str]:
    """A list to be copied with a small change: its text, a name that stands in many of its lines, and the name to put there."""
    old, new, other = draw.sample(_NAMES, 3)
    lines = [_line(draw, number, draw.choice((old, old, other))) for number in range(1, max(2, tokens // _LINE_TOKENS) + 1)]
    return "\n".join(lines), old, new


def _line(draw: random.Random, number: int, owner: str) -> str:
    thing = f"{draw.choice(_COLOURS)} {draw.choice(_KINDS)}"
    return f"{number}. The {thing} in {draw.choice(_PLACES)} belongs to {owner} and costs {draw.randrange(10, 99)} euros."


def pick(draw: random.Random, choices: Sequence[int]) -> int:
    return choices[draw.randrange(len(choices))]

"""What the course of an answer is made of: tokens that are said, matchers of grammars, and what a guide asks of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Allowed = npt.NDArray[np.bool_]  # by token


class Matcher(Protocol):
    """How far a text has come in a grammar. Whatever cannot go on raises BadRequestError: the grammar came with the job."""

    @property
    def accepts(self) -> bool:
        """The text may end here."""
        ...

    @property
    def is_over(self) -> bool:
        """The text can only end here."""
        ...

    def allows(self, tokens: Sequence[int]) -> bool:
        """Would these tokens go on with the text? None that ends an answer does."""
        ...

    def consume(self, tokens: Sequence[int]) -> None: ...

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is no choice; without end where a grammar has none."""
        ...

    def allowed(self) -> Allowed:
        """All tokens that go on with the text, and where it may end those that end an answer. For the caller to change."""
        ...

    def closing(self, allowed: Allowed) -> Allowed:
        """Of these tokens those that end a string of JSON, where the text is in one and may end it; else all of them."""
        ...

    def copy(self) -> "Matcher":
        """Another one that has come as far."""
        ...


class Spells(Protocol):
    """What tokens stand for: spelling.py."""

    def of(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def exact(self, text: bytes) -> list[int]: ...
    def blanks(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A grammar that binds what follows a text."""

    after: bytes
    matcher: Matcher  # at its beginning; only copies of it come any further
    at_start: bool = False
    ends: bool = False
    dictates: bool = True


class Said(NamedTuple):
    """A token of the answer. What a grammar binds is shown to the last letter, the names of control tokens too."""

    token: int
    is_bound: bool = False

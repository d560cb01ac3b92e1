"""What comes of looking for a place for a prompt: a slot, or why it has to wait."""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Place:
    """A slot to compute in, and how many of the prompt's tokens it holds.

    `marks`: after so many tokens of the prompt it is worth a checkpoint, as memory that cannot drop comes back to these only.
    """

    slot: int
    reused: int
    marks: tuple[int, ...] = ()


class Delay(Enum):
    """Why there is no place as yet."""

    AWAITED = auto()  # another job is computing a beginning of the prompt
    COMING = auto()  # its beginning is being read from disk
    FULL = auto()  # all slots run

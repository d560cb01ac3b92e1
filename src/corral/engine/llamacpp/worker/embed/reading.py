"""How a model reads the texts that it makes vectors of: how much of them in a step, and what becomes of their token vectors.

Pure; worker side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

Pooling = Literal["mean", "cls", "last", "rank"]  # rank: a classifier that says how well a text answers a query
_BATCH: Final = 256  # tokens in a step: with more of them attention, which looks at all, costs what larger products save
_LEAST_BATCH: Final = 32
_OUTPUT_BYTES: Final = 256 << 20  # llama.cpp has room for the logits of every token whose vector it gives, wanted or not
_FLOAT_BYTES: Final = 4


class Words(Protocol):
    """The vocabulary, as far as reading a text needs it."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads the texts that it makes vectors of."""

    pooling: Pooling
    keeps: bool  # it has KV memory, or a state
    reads_whole: bool  # its tokens look ahead, so all of a text must be there


def sizes(how: Reading, *, room: int, vocabulary_size: int) -> tuple[int, int]:
    """Tokens in a step, and tokens of all texts under way, for a context that can read a text of `room` tokens."""
    output_bytes = vocabulary_size * _FLOAT_BYTES * (2 if how.keeps else 1)  # of a token; with a head they are computed too
    batch = max(_LEAST_BATCH, min(_BATCH, _OUTPUT_BYTES // output_bytes))
    if how.reads_whole:
        batch = 1 << (room - 1).bit_length() if room > batch else batch
        return batch, batch
    return batch, batch + max(batch, room)


def suffix(words: Words) -> list[int]:
    """The tokens that the tokenizer puts behind every text: a separator, an end, or nothing."""
    plain, whole = words.tokenize("a", add_special=False), words.tokenize("a", add_special=True)
    for begin in range(len(whole) - len(plain) + 1):
        if whole[begin : begin + len(plain)] == plain:
            return whole[begin + len(plain) :]
    return []


# Pooling of token vectors that come in pieces


class MeanPool:
    """The mean of all token vectors."""

    def __init__(self) -> None:
        self._sum: npt.NDArray[np.float64] | float = 0.0
        self._count = 0

    def take(self, rows: npt.NDArray[np.float32]) -> None:
        self._sum = self._sum + rows.sum(axis=0, dtype=np.float64)
        self._count += len(rows)

    def vector(self) -> npt.NDArray[Any]:
        return np.asarray(self._sum / self._count)


class EdgePool:
    """The vector of the first token, or with `is_last` of the last one."""

    def __init__(self, *, is_last: bool) -> None:
        self._is_last = is_last
        self._row: npt.NDArray[np.float32] | None = None

    def take(self, rows: npt.NDArray[np.float32]) -> None:
        if self._is_last or self._row is None:
            self._row = rows[-1 if self._is_last else 0].copy()

    def vector(self) -> npt.NDArray[Any]:
        assert self._row is not None, "a text has a token"
        return self._row


Pool = MeanPool | EdgePool
POOLS: Final[Mapping[Pooling, Callable[[], Pool]]] = {
    "mean": MeanPool,
    "cls": lambda: EdgePool(is_last=False),
    "last": lambda: EdgePool(is_last=True),
}

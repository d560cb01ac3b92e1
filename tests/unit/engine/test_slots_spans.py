"""Slots whose sequences show images: what is cut, and at which positions."""

from collections.abc import Sequence

import numpy as np
import pytest

from corral.engine.llamacpp.worker.batch.memory import KvMemory
from corral.engine.llamacpp.worker.batch.place import Place
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.media.spans import Piece, Spans, digest_of, laid_out
from tests.support.toy_engine import ToyContext

TEXT = list(range(40))


def image(content: bytes, *, tokens: int = 50, positions: int = 10) -> Piece:
    digest = digest_of(content, 0, tokens)
    return Piece(digest, 0, 0, tokens, positions, is_causal=True, places=np.zeros((1, tokens), np.int32))


class Table:
    """A slot table over contexts that only remember where they were cut."""

    def __init__(self, *, sequences: int = 2) -> None:
        self.cuts: list[tuple[int, int]] = []
        memory = KvMemory(self._make, sequences=sequences, cells=1024, most_sequences=sequences, most_cells=1024)
        self.slots: SlotTable[ToyContext] = SlotTable(memory, can_drop=True)

    def _make(self, sequences: int, cells: int) -> ToyContext:
        return CutContext(sequences, cells, log=[], cut_at=self.cuts)

    def run(self, tokens: Sequence[int], spans: Spans, *, answer: int = 1, computed: int | None = None) -> Place:
        """A whole job, or one that is left when so many of its tokens are computed."""
        place = self.slots.place(tokens, room=len(tokens), spans=spans)
        assert isinstance(place, Place)
        done = [*tokens, *[500] * answer][: computed if computed is not None else len(tokens) + answer]
        self.slots.computed(place.slot, len(done))
        self.slots.park(place.slot, done, prompt_tokens=len(tokens))
        return place


class CutContext(ToyContext):
    def __init__(self, sequences: int, cells: int, *, log: list[tuple[object, ...]], cut_at: list[tuple[int, int]]) -> None:
        super().__init__(sequences, cells, log=log)
        self._cut_at = cut_at

    def cut(self, sequence: int, begin: int) -> bool:
        self._cut_at.append((sequence, begin))
        return True

    def save(self, sequence: int) -> list[int]:
        return []


def test_a_cut_behind_an_image_is_at_its_position() -> None:
    table = Table()
    tokens, spans = laid_out([], [TEXT, image(b"a"), [1, 2, 3]])
    table.run(tokens, spans)
    again, spans = laid_out([], [TEXT, image(b"a"), [1, 9, 9]])
    assert table.run(again, spans) == Place(0, 91)
    assert table.cuts == [(0, 51)]


def test_an_image_is_reused_whole_or_not_at_all() -> None:
    table = Table()
    tokens, spans = laid_out([], [TEXT, image(b"a"), [1]])
    table.run(tokens, spans, answer=0, computed=60)
    assert table.run(tokens, spans) == Place(0, 40)
    assert table.cuts == [(0, 40)]


def test_a_copy_is_cut_before_an_image_that_is_another_one() -> None:
    table = Table()
    tokens, spans = laid_out([], [TEXT, image(b"a"), [1]])
    table.run(tokens, spans)
    other, spans = laid_out([], [TEXT, image(b"b"), [1]])
    assert table.run(other, spans) == Place(1, 40)
    assert table.cuts == [(1, 40)]


@pytest.mark.parametrize("computed", [90, 60], ids=["whole-image", "part-of-it"])
def test_fillers_come_behind_an_image(computed: int) -> None:
    table = Table(sequences=3)
    tokens, spans = laid_out([], [TEXT, image(b"a"), [1]])
    table.run(tokens, spans, answer=0, computed=computed)
    place = table.slots.place(list(range(600, 800)), room=300)
    assert isinstance(place, Place)
    table.slots.computed(place.slot, 199)
    assert table.slots.fillers(2) == {0: 50, 2: 0}

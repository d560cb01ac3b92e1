"""Packing texts into steps: on a context that records everything and whose vectors tell what it has read."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from corral.core.errors import EngineError, ModelLoadError
from corral.engine.llamacpp.worker.embed.embedder import Embedder, Piece
from corral.engine.llamacpp.worker.embed.reading import suffix
from corral.engine.llamacpp.worker.texts import Reads
from corral.wire.link import Embed, Embedded, Frame, JobFailed, Overflow
from tests.support.held_texts import HeldTexts

BEGIN, END = 1, 2


@dataclass(slots=True)
class ToyWords:
    """A token is a character that is no space; a text stands between a begin and an end."""

    longest: int = 0  # text so far

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        self.longest = max(self.longest, len(text))
        if "\n" in text:
            raise EngineError("llama.cpp cannot tokenize a text of 1 bytes")
        tokens = list(text.replace(" ", "").encode("ascii"))
        return [BEGIN, *tokens, END] if add_special and text else tokens


@dataclass(slots=True)
class ToyContext:
    """A vector is the sum of the tokens and their count. Fails the test on what llama.cpp would not take."""

    batch: int
    cells: int
    sequences: int = 8
    reads_whole: bool = False
    read: dict[int, list[int]] = field(default_factory=dict)
    steps: list[list[Piece]] = field(default_factory=list)
    failures: int = 0
    is_closed: bool = False

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        assert not self.is_closed
        assert 0 < sum(len(piece.tokens) for piece in pieces) <= self.batch
        assert len({piece.sequence for piece in pieces}) == len(pieces)
        self.steps.append(list(pieces))
        if self.failures:
            self.failures -= 1
            raise EngineError("llama_decode gave -3")
        for piece in pieces:
            assert piece.tokens
            assert 0 <= piece.sequence < self.sequences
            held = self.read.setdefault(piece.sequence, [])
            assert piece.position == len(held)
            assert piece.is_last or not self.reads_whole
            held += piece.tokens
        assert sum(map(len, self.read.values())) <= self.cells
        return [vector_of(self.read.pop(piece.sequence)) for piece in pieces if piece.is_last]

    def forget(self, sequences: Iterable[int]) -> None:
        assert not self.is_closed
        for sequence in sequences:
            self.read.pop(sequence, None)

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


def vector_of(tokens: Sequence[int]) -> bytes:
    return struct.pack("<2f", sum(tokens), len(tokens))


def vector(text: str) -> bytes:
    return vector_of(ToyWords().tokenize(text, add_special=True))


class Pairs:
    """A query, a 3, and the text, cut where it may be."""

    def prompt(self, query: str, text: str, *, limit: int | None) -> list[int]:
        words = ToyWords()
        tokens = [*words.tokenize(query, add_special=False), 3, *words.tokenize(text, add_special=False)]
        return tokens[: max(limit, len(query) + 1)] if limit is not None else tokens


class Rig:
    """An embedder on toy contexts, and what it has told."""

    def __init__(
        self,
        *,
        batch: int = 32,
        reads_whole: bool = False,
        sequences: int = 8,
        most: int = 1000,
        memory_for: int = 10_000,
        step_s: float = 0.01,
        ranks: bool = False,
        texts: Reads | None = None,
    ) -> None:
        self.made: list[ToyContext] = []
        self.vectors: dict[int, list[bytes]] = {}
        self.tokens: dict[int, int] = {}
        self.ends: dict[int, Frame] = {}
        self.now_s = 0.0
        self._batch, self._whole, self._sequences, self._memory_for = batch, reads_whole, sequences, memory_for
        self._step_s = step_s
        self.words = ToyWords()
        ranking = Pairs() if ranks else None
        self.embedder = Embedder(self.words, self._make, most=most, ranking=ranking, texts=texts, now_s=self._tick)

    def _tick(self) -> float:
        self.now_s += self._step_s
        return self.now_s

    def _make(self, room: int) -> ToyContext:
        if room > self._memory_for:
            raise ModelLoadError("not enough memory")
        assert all(context.is_closed for context in self.made), "two contexts at once"
        batch = max(self._batch, room) if self._whole else self._batch
        cells = batch if self._whole else batch + max(batch, room)
        self.made.append(ToyContext(batch, cells, self._sequences, self._whole))
        return self.made[-1]

    def submit(self, job_id: int, *texts: str, num_ctx: int = 1000, truncate: bool = True, query: str | None = None) -> bool:
        return self.embedder.submit(Embed(job_id, list(texts), num_ctx, truncate, query))

    def step(self, times: int = 1, *, is_shared: bool = False) -> None:
        for _ in range(times):
            for frame in self.embedder.step(is_shared=is_shared):
                self._take(frame)

    def finish(self) -> None:
        for _ in range(10_000):
            if not self.embedder.has_work:
                return
            self.step()
        raise AssertionError("it does not end")

    def _take(self, frame: Frame) -> None:
        match frame:
            case Embedded():
                data, count = frame.vectors.data, frame.vectors.count
                size = len(data) // count
                self.vectors.setdefault(frame.job_id, []).extend(data[at : at + size] for at in range(0, len(data), size))
                self.tokens[frame.job_id] = self.tokens.get(frame.job_id, 0) + frame.vectors.prompt_tokens
            case JobFailed() | Overflow():
                assert frame.job_id not in self.ends
                self.ends[frame.job_id] = frame
            case _:
                raise AssertionError(frame)

    @property
    def sizes(self) -> list[int]:
        """Tokens of each step of the newest context."""
        return [sum(len(piece.tokens) for piece in step) for step in self.made[-1].steps]


@pytest.mark.parametrize("reads_whole", [False, True], ids=["in pieces", "whole"])
def test_every_text_gets_its_own_vector_in_order(reads_whole: bool) -> None:
    rig = Rig(reads_whole=reads_whole)
    texts = ["ab" * (number % 13) + chr(97 + number % 26) for number in range(100)]
    rig.submit(1, *texts)
    rig.finish()
    assert rig.vectors[1] == [vector(text) for text in texts]
    assert rig.tokens[1] == sum(len(text) + 2 for text in texts)
    assert not rig.ends


def test_many_texts_share_a_step() -> None:
    rig = Rig(batch=32, reads_whole=True)
    rig.submit(1, *["abcd"] * 12)
    rig.finish()
    assert rig.sizes == [30, 30, 12]
    assert [piece.sequence for piece in rig.made[0].steps[0]] == [0, 1, 2, 3, 4]


def test_a_text_that_may_come_in_pieces_fills_a_step() -> None:
    rig = Rig(batch=32)
    rig.submit(1, *["abcd"] * 12)
    rig.finish()
    assert rig.sizes == [32, 32, 8]


def test_sequences_bound_a_step() -> None:
    rig = Rig(batch=100, sequences=3, reads_whole=True)
    rig.submit(1, *["a"] * 7)
    rig.finish()
    assert rig.sizes == [9, 9, 3]


@pytest.mark.parametrize("reads_whole", [False, True], ids=["in pieces", "whole"])
def test_a_text_longer_than_a_step_makes_the_context_grow_and_it_is_given_back(reads_whole: bool) -> None:
    rig = Rig(batch=32, reads_whole=reads_whole)
    rig.submit(1, "a", "b" * 200, "c")
    rig.finish()
    assert rig.vectors[1] == [vector("a"), vector("b" * 200), vector("c")]
    assert len(rig.made) == 2
    assert rig.made[1].is_closed
    rig.submit(2, "d")
    rig.finish()
    assert rig.made[2].batch == 32
    assert not rig.made[2].is_closed


def test_jobs_take_turns_text_by_text() -> None:
    rig = Rig(batch=12, reads_whole=True)
    rig.submit(1, *["ab"] * 30)
    rig.submit(2, "cd")
    rig.step()
    assert rig.vectors[2] == [vector("cd")]
    assert len(rig.vectors[1]) == 2


def test_a_long_text_leaves_half_of_each_step_to_others() -> None:
    rig = Rig(batch=32)
    rig.submit(1, "x" * 300)
    rig.step()
    rig.submit(2, *["abcdef"] * 6)
    rig.step(3)
    assert len(rig.vectors[2]) == 6
    rig.finish()
    assert rig.vectors[1] == [vector("x" * 300)]


def test_two_long_texts_are_read_beside_each_other() -> None:
    rig = Rig(batch=32, most=200)
    rig.submit(1, "x" * 150)
    rig.submit(2, "y" * 100)
    rig.finish()
    assert rig.vectors == {1: [vector("x" * 150)], 2: [vector("y" * 100)]}


def test_a_step_beside_generations_is_short() -> None:
    rig = Rig(batch=512, step_s=1.0)
    rig.submit(1, *["a" * 18] * 100)
    rig.step()
    assert rig.sizes == [160], "sequences bound the first step, whose speed nobody knows"
    rig.step(is_shared=True)
    assert rig.sizes[1] == 32, "a second a step, for 160 tokens: the least there may be"
    rig.finish()
    assert rig.vectors[1] == [vector("a" * 18)] * 100


def test_more_texts_of_a_job_come_later() -> None:
    rig = Rig()
    assert rig.submit(1, "a")
    assert not rig.submit(1, "b")
    rig.finish()
    assert not rig.embedder.has_work
    assert rig.submit(1, "c")
    rig.finish()
    assert rig.vectors[1] == [vector("a"), vector("b"), vector("c")]


def test_cut_text_keeps_what_the_tokenizer_puts_behind_it() -> None:
    rig = Rig(most=10)
    rig.submit(1, "abcdefghijklm")
    rig.finish()
    assert rig.vectors[1] == [vector("abcdefgh")]
    assert rig.tokens[1] == 10


def test_num_ctx_bounds_a_text_below_what_the_model_can_read() -> None:
    rig = Rig(most=10)
    rig.submit(1, "abcdef", num_ctx=5)
    rig.finish()
    assert rig.vectors[1] == [vector("abc")]


def test_too_long_text_that_may_not_be_cut_ends_its_job_only() -> None:
    rig = Rig(most=10)
    rig.submit(1, "ab", "abcdefghijklm", "cd", truncate=False)
    rig.submit(2, "ef", "gh")
    rig.finish()
    assert rig.ends == {1: Overflow(1, 15, 10)}
    assert rig.vectors[2] == [vector("ef"), vector("gh")]


@pytest.mark.parametrize(
    ("text", "is_asked_wrong"),
    [pytest.param("", True, id="no tokens"), pytest.param("\n", False, id="not to be tokenized")],
)
def test_text_that_cannot_be_read_ends_its_job(text: str, is_asked_wrong: bool) -> None:
    rig = Rig()
    rig.submit(1, text)
    rig.submit(2, "a")
    rig.finish()
    end = rig.ends[1]
    assert isinstance(end, JobFailed)
    assert end.is_asked_wrong is is_asked_wrong
    assert rig.vectors == {2: [vector("a")]}


def test_texts_of_a_ranker_are_read_with_their_jobs_query() -> None:
    rig = Rig(ranks=True, most=10)
    rig.submit(1, "ab", "c" * 50, query="q")
    rig.submit(2, "ab", query="why")
    rig.submit(3, "ab", "c" * 50, query="why", truncate=False)
    rig.submit(4, "ab", query="w" * 20)
    rig.finish()
    assert rig.vectors[1] == [vector_of([*b"q", 3, *b"ab"]), vector_of([*b"q", 3, *b"cccccccc"])]
    assert rig.vectors[2] == [vector_of([*b"why", 3, *b"ab"])]
    assert rig.ends == {3: Overflow(3, 54, 10), 4: Overflow(4, 21, 10)}


@pytest.mark.parametrize(
    ("ranks", "query", "reason"),
    [
        (True, None, "the model ranks texts by a query and makes no embeddings"),
        (False, "", "the model makes embeddings and does not rank texts by a query"),
    ],
)
def test_job_of_the_other_kind_is_refused(ranks: bool, query: str | None, reason: str) -> None:
    rig = Rig(ranks=ranks)
    rig.submit(1, "a", query=query)
    rig.finish()
    assert rig.ends == {1: JobFailed(1, reason, is_asked_wrong=True)}


def test_cancelled_job_leaves_in_the_midst_of_a_text() -> None:
    rig = Rig(batch=32)
    rig.submit(1, "x" * 300, "y")
    rig.step(2)
    assert rig.made[-1].read
    rig.embedder.cancel(1)
    assert not rig.made[-1].read
    assert not rig.embedder.has_work
    rig.embedder.cancel(1)
    rig.submit(2, *["a"] * 20)
    rig.finish()
    assert rig.vectors == {2: [vector("a")] * 20}


def test_failed_step_ends_the_jobs_in_it_and_no_others() -> None:
    rig = Rig(batch=32, reads_whole=True)
    rig.embedder.grow(1)
    rig.made[0].failures = 1
    rig.submit(1, "a" * 30, "b")
    rig.submit(2, "c" * 30)
    rig.finish()
    assert rig.ends == {1: JobFailed(1, "llama_decode gave -3")}
    assert rig.vectors == {2: [vector("c" * 30)]}


def test_text_without_memory_for_it_ends_its_job_and_the_next_one_goes_on() -> None:
    rig = Rig(batch=32, reads_whole=True, memory_for=100)
    rig.submit(1, "a" * 200)
    rig.submit(2, "b", "c" * 50)
    rig.finish()
    assert rig.ends == {1: JobFailed(1, "not enough memory")}
    assert rig.vectors == {2: [vector("b"), vector("c" * 50)]}


def test_without_memory_for_any_text_every_job_is_told() -> None:
    rig = Rig(memory_for=0)
    rig.submit(1, "a")
    rig.submit(2, "b")
    rig.finish()
    assert set(rig.ends) == {1, 2}


def test_large_vectors_come_in_frames_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.engine.llamacpp.worker.embed.embedder._FRAME_BYTES", 16)
    rig = Rig(reads_whole=True)
    rig.submit(1, *["a"] * 5)
    frames = rig.embedder.step(is_shared=False)
    assert [frame.vectors.count for frame in frames if isinstance(frame, Embedded)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("whole", "wanted"),
    [
        pytest.param([101, 7, 102], [102], id="begin and end"),
        pytest.param([1, 7], [], id="begin only"),
        pytest.param([7, 2, 3], [2, 3], id="two behind"),
        pytest.param([9, 9], [], id="not to be seen"),
    ],
)
def test_suffix_is_what_stands_behind_a_text(whole: list[int], wanted: list[int]) -> None:
    class Words:
        def tokenize(self, _text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
            return whole if add_special else [7]

    assert suffix(Words()) == wanted


def test_others_go_on_while_a_long_text_is_read_and_it_keeps_its_place() -> None:
    texts = HeldTexts()
    rig = Rig(texts=texts)
    rig.submit(1, "a", "b" * 120, "c")
    rig.submit(2, "d", "e")
    rig.step(5)
    assert rig.vectors[1] == [vector_of([BEGIN, ord("a"), END])]
    assert len(rig.vectors[2]) == 2
    assert rig.embedder.has_work
    texts.release()
    rig.finish()
    assert rig.vectors[1][1:] == [vector_of([BEGIN, *b"b" * 120, END]), vector_of([BEGIN, ord("c"), END])]


def test_job_that_leaves_while_its_text_is_read_leaves_nothing() -> None:
    texts = HeldTexts()
    rig = Rig(texts=texts)
    rig.submit(1, "b" * 120)
    rig.step()
    rig.embedder.cancel(1)
    assert not rig.embedder.has_work
    texts.release()
    rig.submit(2, "d")
    rig.finish()
    assert list(rig.vectors) == [2]


def test_of_a_text_that_is_cut_no_more_is_tokenized_than_is_wanted() -> None:
    rig = Rig()
    rig.submit(1, "abc" * 10_000, num_ctx=8)
    rig.finish()
    assert rig.vectors[1] == [vector_of([BEGIN, *b"abcabc", END])]
    assert rig.words.longest == 8 * 32


def test_text_whose_beginning_has_few_tokens_is_tokenized_whole() -> None:
    rig = Rig()
    rig.submit(1, " " * 1000 + "abc" * 100, num_ctx=8)
    rig.finish()
    assert rig.vectors[1] == [vector_of([BEGIN, *b"abcabc", END])]
    assert rig.words.longest == 1300

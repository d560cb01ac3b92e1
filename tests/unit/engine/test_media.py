"""The thread that reads and encodes what jobs show."""

from collections.abc import Iterator

import pytest

from corral.core.errors import EngineError
from corral.core.types import Job
from corral.engine.llamacpp.worker.media.media import MediaReader, Read, Unread
from tests.support.fake_encoder import FakeEncoder
from tests.support.gguf_vision import picture

WAIT_S = 10.0


class Desk:
    """A reader, and what a batcher does with it."""

    def __init__(self, encoder: FakeEncoder, **more: int) -> None:
        self.encoder = encoder
        self.reader = MediaReader(encoder, **more)

    def read(self, job_id: int, prompt: str, *media: bytes) -> Read | Unread:
        self.reader.read(job_id, Job(prompt=prompt, media=media, num_ctx=1000))
        return self.fetched()

    def fetched(self) -> Read | Unread:
        assert self.reader.has_work
        while not (found := self.reader.fetch()):
            self.reader.wait(WAIT_S)
        (one,) = found
        return one

    def rows(self, job_id: int, read: Read | Unread, number: int = 0) -> list[list[float]]:
        assert isinstance(read, Read)
        piece = read.view.spans.pieces(0)[number]
        while (rows := self.reader.rows(job_id, piece)) is None:
            self.reader.wait(0.01)
        self.reader.computed(job_id, piece)
        found: list[list[float]] = rows.tolist()
        return found


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(FakeEncoder())
    yield desk
    desk.encoder.gate.set()
    desk.reader.close()


def test_a_prompt_is_read(desk: Desk) -> None:
    read = desk.read(1, "[img-0]ab", picture(size=(3, 1)))
    assert isinstance(read, Read)
    assert (read.job_id, len(read.view.tokens)) == (1, 6)
    assert not desk.reader.has_work


def test_a_prompt_that_cannot_be_read_is_said_to_be_asked_wrong(desk: Desk) -> None:
    assert desk.read(1, "[img-0]ab", b"text") == Unread(
        1, "image 1 cannot be read: it is no JPEG, PNG, GIF, BMP or WebP", is_asked_wrong=True
    )


def test_an_image_is_encoded_once_however_often_it_is_shown(desk: Desk) -> None:
    first = desk.read(1, "[img-0]a", picture(size=(3, 1)))
    second = desk.read(2, "b[img-0][img-0]", picture(size=(3, 1)))
    assert desk.rows(1, first) == desk.rows(2, second, 0) == desk.rows(2, second, 1)
    desk.reader.drop(1)
    third = desk.read(3, "[img-0]", picture(size=(3, 1)))
    desk.rows(3, third)
    assert desk.reader.encoded == 1


def test_two_images_are_never_taken_for_each_other(desk: Desk) -> None:
    read = desk.read(1, "[img-0][img-1]", picture(0, (3, 1)), picture(1, (3, 1)))
    assert desk.rows(1, read, 0) != desk.rows(1, read, 1)
    assert desk.reader.encoded == 2


def test_pieces_of_one_image_are_prepared_together(desk: Desk) -> None:
    read = desk.read(1, "[img-0]", picture(size=(250, 1)))
    assert isinstance(read, Read)
    desk.reader.need(1, read.view.spans.pieces(0))
    for number in range(3):
        desk.rows(1, read, number)
    assert desk.encoder.opened_parts == [0]
    assert desk.encoder.encoded == [(0, 0), (0, 1), (0, 2)]


def test_only_what_is_needed_is_encoded(desk: Desk) -> None:
    read = desk.read(1, "[img-0]", picture(size=(250, 1)))
    assert isinstance(read, Read)
    desk.reader.need(1, read.view.spans.pieces(120))
    desk.rows(1, read, 2)
    assert desk.encoder.encoded == [(0, 1), (0, 2)]


def test_what_was_kept_too_long_ago_is_encoded_again() -> None:
    desk = Desk(FakeEncoder(), kept_bytes=30)
    for number in range(3):
        read = desk.read(number, "[img-0]", picture(number % 2, (3, 1)))
        desk.rows(number, read)
        desk.reader.drop(number)
    assert desk.reader.encoded == 3
    desk.reader.close()


def test_a_prompt_is_read_before_other_pieces_are_encoded(desk: Desk) -> None:
    read = desk.read(1, "[img-0]", picture(size=(250, 1)))
    assert isinstance(read, Read)
    desk.encoder.gate.clear()
    desk.reader.need(1, read.view.spans.pieces(0))
    desk.reader.read(2, Job(prompt="[img-0]", media=(b"text",), num_ctx=1000))
    desk.encoder.gate.set()
    assert isinstance(desk.fetched(), Unread)
    desk.rows(1, read, 2)


def test_a_job_that_is_dropped_is_neither_read_nor_encoded(desk: Desk) -> None:
    read = desk.read(1, "[img-0]", picture(size=(250, 1)))
    assert isinstance(read, Read)
    desk.encoder.gate.clear()
    desk.reader.need(1, read.view.spans.pieces(0))
    desk.reader.read(2, Job(prompt="[img-0]", media=(picture(),), num_ctx=1000))
    desk.reader.drop(2)
    assert not desk.reader.has_work
    desk.reader.drop(1)
    desk.encoder.gate.set()
    other = desk.read(3, "[img-0]", picture(9, (3, 1)))
    desk.rows(3, other)
    assert len(desk.encoder.encoded) <= 2  # that one, and the piece that was under way


def test_a_failure_is_told_to_everybody_who_waits_and_forgotten_with_them(desk: Desk) -> None:
    read = desk.read(1, "[img-0]", picture(size=(3, 1)))
    desk.encoder.fails = True
    with pytest.raises(EngineError, match="no memory for this image"):
        desk.rows(1, read)
    with pytest.raises(EngineError, match="no memory for this image"):
        desk.rows(1, read)
    desk.reader.drop(1)
    desk.encoder.fails = False
    again = desk.read(2, "[img-0]", picture(size=(3, 1)))
    assert desk.rows(2, again)


def test_what_nobody_had_thought_of_is_told_to_who_computes() -> None:
    desk = Desk(FakeEncoder())
    desk.encoder.layout = None  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError, match="the thread that reads images has died"):
        desk.read(1, "[img-0]", picture())
    assert desk.reader.has_work

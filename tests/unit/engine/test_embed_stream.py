"""A job's texts go out in bounded numbers, and only as its vectors are read."""

import pytest

from corral.core.errors import EngineCrashedError
from corral.core.types import EmbedJob, Vectors
from corral.engine.llamacpp.embed_stream import EmbedStream
from corral.wire.link import Embed, Frame


class Rig:
    def __init__(self, *texts: str) -> None:
        self.sent: list[Embed] = []
        self.stream = EmbedStream(7, EmbedJob(texts=texts, num_ctx=100, truncate=False), self._send)

    def _send(self, frame: Frame) -> None:
        assert isinstance(frame, Embed)
        assert (frame.job_id, frame.num_ctx, frame.truncate) == (7, 100, False)
        self.sent.append(frame)

    @property
    def texts(self) -> list[str]:
        return [text for frame in self.sent for text in frame.texts]


def vectors(count: int) -> Vectors:
    return Vectors(count, b"\0" * 4 * count, count)


async def test_small_job_goes_in_one_frame() -> None:
    rig = Rig("a", "b", "c")
    rig.stream.take(vectors(2))
    rig.stream.take(vectors(1))
    assert [came.count async for came in rig.stream.vectors()] == [2, 1]
    assert [frame.texts for frame in rig.sent] == [["a", "b", "c"]]
    assert rig.stream.is_idle


async def test_large_job_goes_as_it_is_read() -> None:
    texts = [str(number) for number in range(2000)]
    rig = Rig(*texts)
    stream = rig.stream.vectors()
    for read in range(128, 1536, 128):
        rig.stream.take(vectors(128))
        assert (await anext(stream)).count == 128
        assert rig.texts == texts[: read + 512]
        assert not rig.stream.is_idle
    rig.stream.take(vectors(2000 - 1408))
    assert [came.count async for came in stream] == [592]
    assert rig.texts == texts
    assert rig.stream.is_idle


async def test_long_texts_go_one_by_one() -> None:
    texts = [letter * (1 << 20) for letter in "abc"]
    rig = Rig(*texts)
    stream = rig.stream.vectors()
    for sent in (2, 3, 3):
        rig.stream.take(vectors(1))
        assert (await anext(stream)).count == 1
        assert rig.texts == texts[:sent]


async def test_what_came_is_read_before_the_error() -> None:
    rig = Rig("a", "b")
    rig.stream.take(vectors(1))
    rig.stream.fail(EngineCrashedError())
    stream = rig.stream.vectors()
    assert (await anext(stream)).count == 1
    with pytest.raises(EngineCrashedError):
        await anext(stream)

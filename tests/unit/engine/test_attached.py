"""Media that come ahead of their jobs, piece by piece."""

from corral.core.types import Job
from corral.engine.llamacpp.worker.media.attached import Attached
from corral.wire.link import Attach

JOB = Job(prompt="hi", num_ctx=10)


def test_pieces_become_the_media_of_their_job() -> None:
    attached = Attached()
    for frame in (Attach(1, 0, b"ab"), Attach(2, 0, b"x"), Attach(1, 0, b"c"), Attach(1, 1, b""), Attach(1, 2, b"d")):
        attached.add(frame)
    assert attached.whole(1, JOB).media == (b"abc", b"", b"d")
    assert attached.whole(2, JOB).media == (b"x",)


def test_a_job_that_nothing_came_ahead_of_keeps_its_own_media() -> None:
    job = Job(prompt="hi", num_ctx=10, media=(b"a",))
    assert Attached().whole(1, job) is job


def test_media_of_a_job_that_is_over_are_forgotten() -> None:
    attached = Attached()
    attached.add(Attach(1, 0, b"ab"))
    attached.drop(1)
    attached.drop(1)
    assert attached.whole(1, JOB) is JOB

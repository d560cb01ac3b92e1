"""From a job's files and tags to tokens and spans."""

import pytest

from corral.core.types import Job
from corral.engine.llamacpp.worker.media.pictures import UnreadableError
from corral.engine.llamacpp.worker.media.viewer import Viewer
from tests.support.fake_encoder import FakeEncoder
from tests.support.gguf_vision import picture, sound


def job(prompt: str, *media: bytes, **more: object) -> Job:
    return Job(prompt=prompt, media=media, num_ctx=1000, **more)  # type: ignore[arg-type]


def test_view_puts_every_image_where_its_tag_is() -> None:
    view = Viewer(FakeEncoder()).view(job("a[img-1]b[img-0]c", picture(size=(3, 1)), picture(size=(2, 1))))
    pieces = view.spans.pieces(0)
    assert [piece.tokens for piece in pieces] == [2, 3]
    assert view.tokens == [1, ord("a"), *[pieces[0].token] * 2, ord("b"), *[pieces[1].token] * 3, ord("c")]
    assert view.media == {1: picture(size=(2, 1)), 3: picture(size=(3, 1))}


def test_view_goes_on_from_a_prefix() -> None:
    view = Viewer(FakeEncoder()).view(job("[img-0]b", picture(size=(3, 1)), prefix_tokens=(7, 8)))
    assert view.tokens[:2] == [7, 8]
    span = view.spans.at(2)
    assert span
    assert span.position == 2
    assert span.piece.places.tolist() == [[2, 3, 4]]


def test_view_cuts_large_images_into_pieces_of_their_own() -> None:
    view = Viewer(FakeEncoder()).view(job("[img-0]", picture(size=(250, 1))))
    pieces = view.spans.pieces(0)
    assert [(piece.ordinal, piece.tokens) for piece in pieces] == [(0, 100), (1, 100), (2, 50)]
    assert len({piece.token for piece in pieces}) == 3


def test_view_knows_an_image_again_without_decoding_it() -> None:
    viewer, data = Viewer(FakeEncoder()), picture(size=(3, 1))
    first = viewer.view(job("[img-0]a", data))
    with viewer.opened(first, 0):
        pass
    second = viewer.view(job("[img-0]ab", data))
    assert second.tokens[: len(first.tokens)] == first.tokens


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(
            job("[img-0]", picture(), picture(1)),
            "image 2 has no place in the prompt; put [img-1] where it belongs",
            id="more-images-than-tags",
        ),
        pytest.param(
            job("[img-0][img-1]", picture(), b"text"),
            "image 2 cannot be read: it is no JPEG, PNG, GIF, BMP or WebP",
            id="text-for-an-image",
        ),
        pytest.param(
            job("[img-0]" * 1001, picture()),
            "the prompt shows images 1001 times, and the context has room for 1000 tokens",
            id="one-image-too-often",
        ),
        pytest.param(job("[img-0]", picture()[:99]), "image 1 cannot be read: it is broken", id="cut"),
        pytest.param(job("[img-0]", b""), "image 1 cannot be read: it is no JPEG", id="empty"),
        pytest.param(job("[img-0]", sound()), "sound 1 cannot be read: this model cannot hear", id="sound"),
        pytest.param(
            job("[img-0][img-1]", picture(), picture(size=(13, 1))),
            "image 2 cannot be shown: its size is none that the model can take",
            id="size",
        ),
    ],
)
def test_view_says_what_cannot_be_shown(made: Job, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        Viewer(FakeEncoder()).view(made)
    assert str(caught.value).startswith(reason)


def test_a_model_that_only_hears_takes_no_images() -> None:
    viewer = Viewer(FakeEncoder(sees=False, hears=True))
    assert viewer.view(job("[img-0]", sound(0.001))).spans.end > 1
    with pytest.raises(
        UnreadableError, match="image 1 cannot be read: it is no WAV, MP3 or FLAC, and this model can only hear"
    ):
        viewer.view(job("[img-0]", picture()))


def test_a_model_that_sees_and_hears_says_all_that_it_takes() -> None:
    viewer = Viewer(FakeEncoder(hears=True))
    with pytest.raises(UnreadableError, match="it is no JPEG, PNG, GIF, BMP or WebP, and no WAV, MP3 or FLAC"):
        viewer.view(job("[img-0]", b"text"))


def test_view_ends_in_a_text_that_an_answer_can_be_drawn_from() -> None:
    view = Viewer(FakeEncoder()).view(job("[img-0]", picture(size=(3, 1))))
    assert view.tokens[-1] == ord("\n")
    assert len(view.tokens) == view.spans.end + 1

"""Jobs that show images, on the toy model: when their spans are computed, what is reused, and what becomes of the others."""

from typing import Any

import pytest

from corral.core.types import Grammar
from corral.wire.link import JobFailed, Overflow
from tests.support.fake_encoder import FakeEncoder, PlayedMedia
from tests.support.gguf_vision import picture
from tests.support.toy_engine import Toy, answer

SMALL, OTHER = picture(1, (20, 1)), picture(2, (20, 1))
LARGE = picture(3, (250, 1))  # three pieces
TEXT = "and what is there to be seen in all of this?"


def toy_of(media: PlayedMedia | None = None, **more: Any) -> tuple[Toy, PlayedMedia]:
    media = media or PlayedMedia()
    return Toy(media=media, **more), media


def alone(prompt: str, *media: bytes, **more: Any) -> str:
    """The answer in a fresh context, everything at once."""
    return toy_of(num_batch=1000, cells=2048)[0].run(prompt, media=media, num_ctx=2000, **more).text


def rows(toy: Toy) -> list[tuple[int, int]]:
    """Which sequence computed how many rows, step by step."""
    return [(entry[1], entry[2]) for entry in toy.context.log if entry[0] == "rows"]


def test_an_answer_depends_on_the_image_and_its_place() -> None:
    answers = {alone(f"[img-0]{TEXT}", SMALL), alone(f"[img-0]{TEXT}", OTHER), alone(f"{TEXT}[img-0]!", SMALL)}
    assert len(answers) == 3


@pytest.mark.parametrize("num_batch", [7, 64, 1000])
def test_spans_are_computed_in_their_turn(num_batch: int) -> None:
    toy, media = toy_of(num_batch=num_batch)
    prompt = f"a[img-0]b[img-1][img-0]{TEXT}"
    outcome = toy.run(prompt, media=(SMALL, LARGE))
    assert outcome.text == alone(prompt, SMALL, LARGE)
    assert outcome.finish
    assert outcome.finish.prompt_tokens == 1 + 1 + 20 + 1 + 250 + 20 + len(TEXT)
    assert media.encoded == 4
    assert sum(count for _, count in rows(toy)) == 290


def test_a_span_whose_tokens_see_each_other_is_computed_at_once() -> None:
    toy, _ = toy_of(PlayedMedia(FakeEncoder(is_causal=False)), num_batch=64)
    toy.run(f"[img-0]{TEXT}", media=(picture(1, (40, 1)),))
    assert [entry[2:] for entry in toy.context.log if entry[0] == "rows"] == [(40, False)]


def test_a_second_turn_reuses_the_image() -> None:
    toy, media = toy_of()
    first = toy.run(f"[img-0]{TEXT}", media=(LARGE,))
    second = toy.run(f"[img-0]{TEXT}{first.text}!", media=(LARGE,))
    assert second.finish
    assert second.finish.cached_tokens >= 250 + len(TEXT)
    assert second.text == alone(f"[img-0]{TEXT}{first.text}!", LARGE)
    assert media.encoded == 3
    assert sum(count for _, count in rows(toy)) == 250


def test_another_image_in_the_same_place_is_not_reused() -> None:
    toy, media = toy_of()
    toy.run(f"{TEXT}[img-0]{TEXT}", media=(SMALL,))
    outcome = toy.run(f"{TEXT}[img-0]{TEXT}", media=(OTHER,))
    assert outcome.finish
    assert outcome.finish.cached_tokens == 1 + len(TEXT)
    assert outcome.text == alone(f"{TEXT}[img-0]{TEXT}", OTHER)
    assert media.encoded == 2


def test_what_two_answers_share_is_computed_once() -> None:
    toy, media = toy_of(num_batch=1000)
    numbers = [toy.submit(f"[img-0]{TEXT}{number}", media=(LARGE,)) for number in range(3)]
    toy.finish()
    assert [toy.outcomes[number].text for number in numbers] == [alone(f"[img-0]{TEXT}{number}", LARGE) for number in range(3)]
    assert sum(count for _, count in rows(toy)) == 250
    assert media.encoded == 3


def test_a_span_that_was_left_in_the_middle_is_computed_anew() -> None:
    toy, _ = toy_of(num_batch=30)
    prompt = f"{TEXT}[img-0]{TEXT}"
    number = toy.submit(prompt, media=(LARGE,))
    while sum(count for _, count in rows(toy)) < 60:
        toy.step()
    toy.batcher.cancel(number)
    outcome = toy.run(prompt, media=(LARGE,))
    assert outcome.finish
    assert outcome.finish.cached_tokens == 1 + len(TEXT)
    assert outcome.text == alone(prompt, LARGE)


def test_others_go_on_while_an_image_is_encoded() -> None:
    toy, media = toy_of()
    media.is_blind = True
    shown = toy.submit(f"[img-0]{TEXT}", media=(SMALL,))
    text = toy.submit("hello")
    while not toy.outcomes[text].is_over:
        toy.step()
    assert toy.outcomes[text].text == answer("hello")[0]
    assert not media.waits
    toy.step()
    assert media.waits
    media.is_blind = False
    toy.finish()
    assert toy.outcomes[shown].text == alone(f"[img-0]{TEXT}", SMALL)


def test_a_large_image_makes_others_wait_for_no_more_than_a_prompt_would() -> None:
    def clock_s() -> float:
        """A second a token: too slow for more than the least piece beside somebody who draws."""
        of_texts = sum(count for batch in toy.context.batches for _, _, count in batch)
        return float(of_texts + sum(count for _, count in rows(toy)))

    toy, _ = toy_of(clock_s=clock_s, num_batch=64, model=lambda held: ord("a") + len(held) % 2)
    toy.submit("a" * 200, num_ctx=4000)
    toy.step(6)
    toy.submit(f"[img-0]{TEXT}", media=(LARGE,))
    while len(rows(toy)) < 6:
        said = len(toy.outcomes[1].text)
        toy.step()
        assert len(toy.outcomes[1].text) == said + 1
    assert max(count for _, count in rows(toy)) == 8


def test_memory_that_grows_and_loses_a_sequence_computes_its_image_again() -> None:
    toy, media = toy_of(first=1, cells=512, restores=False)
    number = toy.submit(f"[img-0]{TEXT}", media=(LARGE,))
    while sum(count for _, count in rows(toy)) < 100:
        toy.step()
    toy.submit("x" * 600)
    toy.finish()
    assert toy.outcomes[number].text == alone(f"[img-0]{TEXT}", LARGE)
    assert media.encoded == 3


def test_images_that_do_not_fit_are_an_overflow_with_true_numbers() -> None:
    toy, media = toy_of()
    refusal = toy.run(f"[img-0]{TEXT}", media=(LARGE,), num_ctx=200).refusal
    assert isinstance(refusal, Overflow)
    assert (refusal.prompt_tokens, refusal.num_ctx) == (1 + 250 + len(TEXT), 200)
    assert not media.encoded
    assert not media.views


def test_a_full_context_with_an_image_is_never_shifted() -> None:
    toy, _ = toy_of(model=lambda held: ord("a") + len(held) % 2)
    outcome = toy.run(f"[img-0]{TEXT}", media=(SMALL,), num_ctx=100, num_predict=500)
    assert outcome.finish
    assert outcome.finish.reason == "length"
    assert not [entry for entry in toy.context.log if entry[0] == "shift"]


@pytest.mark.parametrize(
    ("prompt", "media", "more", "reason"),
    [
        pytest.param("[img-0]", (b"text",), {}, "image 1 cannot be read", id="unreadable"),
        pytest.param("what?", (SMALL,), {}, "image 1 has no place", id="no-tag"),
        pytest.param("[img-0]", (SMALL,), {"suffix": "x"}, "images and a suffix", id="suffix"),
    ],
)
def test_what_cannot_be_shown_is_said_to_be_asked_wrong(
    prompt: str, media: tuple[bytes, ...], more: dict[str, Any], reason: str
) -> None:
    toy, _ = toy_of()
    refusal = toy.run(prompt, media=media, **more).refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.reason.startswith(reason)
    assert refusal.is_asked_wrong


def test_a_model_without_a_projector_refuses_images() -> None:
    refusal = Toy().run("[img-0]", media=(SMALL,)).refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong


def test_a_failing_encoder_ends_its_job_and_no_other() -> None:
    toy, media = toy_of()
    media.encoder.fails = True
    shown = toy.submit(f"[img-0]{TEXT}", media=(SMALL,))
    text = toy.submit("hello")
    toy.finish()
    assert toy.outcomes[shown].refusal == JobFailed(shown, "no memory for this image")
    assert toy.outcomes[text].text == answer("hello")[0]


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_job_can_leave_at_any_time(steps: int) -> None:
    toy, media = toy_of(num_batch=40)
    number = toy.submit(f"a[img-0]b[img-1]{TEXT}", media=(SMALL, LARGE))
    toy.step(steps)
    toy.batcher.cancel(number)
    toy.finish()
    assert not media.views
    assert toy.run(f"a[img-0]b[img-1]{TEXT}", media=(SMALL, LARGE)).text == alone(f"a[img-0]b[img-1]{TEXT}", SMALL, LARGE)


def test_a_grammar_that_cannot_be_used_leaves_nothing_of_the_images_behind() -> None:
    toy, media = toy_of()
    refusal = toy.run(f"[img-0]{TEXT}", media=(SMALL,), grammars=(Grammar(text="start: ("),)).refusal
    assert isinstance(refusal, JobFailed)
    assert not media.views


def test_an_answer_about_an_image_can_be_bound_by_a_grammar() -> None:
    toy, _ = toy_of()
    assert toy.run(f"[img-0]{TEXT}", media=(SMALL,), grammars=(Grammar(text='start: "yes" | "no"'),)).text in ("yes", "no")

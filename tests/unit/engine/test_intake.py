"""Long texts are read beside the steps, and one that is too long is refused with what is known of it."""

import pytest

from corral.core.types import Grammar
from corral.engine.llamacpp.worker.texts import Texts
from corral.wire.link import JobFailed, Overflow
from tests.support.held_texts import HeldTexts
from tests.support.toy_engine import Toy, ToyWords, answer

LONG = "y" * 100


def test_others_go_on_and_come_while_a_long_prompt_is_read() -> None:
    texts = HeldTexts()
    toy = Toy(texts=texts)
    stream = toy.submit("hello")
    toy.step(3)
    long = toy.submit(LONG, num_predict=20)
    later = toy.submit("later")
    while not (toy.outcomes[stream].is_over and toy.outcomes[later].is_over):
        toy.step()
    assert toy.outcomes[stream].text == answer("hello")[0]
    assert toy.outcomes[later].text == answer("later")[0]
    assert toy.batcher.has_work
    texts.release()
    toy.finish()
    assert toy.outcomes[long].text == answer(LONG, num_predict=20)[0]


def test_long_prompt_may_have_a_grammar_that_takes_time_too() -> None:
    texts = HeldTexts()
    toy = Toy(texts=texts)
    long = toy.submit(LONG, grammars=(Grammar(text='start: "abc"'),))
    toy.step()
    texts.release()
    toy.finish()
    assert toy.outcomes[long].text == "abc"


def test_job_that_is_cancelled_while_its_prompt_is_read_leaves_nothing() -> None:
    texts = HeldTexts()
    toy = Toy(texts=texts)
    toy.batcher.cancel(toy.submit(LONG))
    assert not toy.batcher.has_work
    texts.release()
    toy.step()
    assert not toy.made[0].batches


def test_long_prompt_that_does_not_fit_overflows_with_both_numbers() -> None:
    texts = HeldTexts()
    toy = Toy(texts=texts)
    long = toy.submit(LONG, num_ctx=64)
    assert toy.outcomes[long].refusal is None
    texts.release()
    toy.finish()
    assert toy.outcomes[long].refusal == Overflow(long, 100, 64)


def test_text_that_is_not_tokenized_overflows_with_the_least_of_its_tokens() -> None:
    toy = Toy(words=ToyWords(most=50))
    assert toy.run(LONG, num_ctx=40, prefix_tokens=(97, 98)).refusal == Overflow(1, 52, 40, is_least=True)
    assert toy.run(LONG[:40], suffix=LONG[:60], num_ctx=50).refusal == Overflow(2, 50, 50, is_least=True)


def test_text_that_is_not_tokenized_and_might_fit_is_refused_all_the_same() -> None:
    refusal = Toy(words=ToyWords(most=50)).run(LONG, num_ctx=51).refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong
    assert refusal.reason.startswith("the text has 100 bytes or more")


def test_prompt_with_images_is_refused_before_it_is_read() -> None:
    refusal = Toy().run("x" * (9 << 20), media=(b"image",)).refusal
    assert isinstance(refusal, JobFailed)
    assert refusal.is_asked_wrong
    assert "9437184 bytes" in refusal.reason


def test_short_text_is_read_at_once_and_a_long_one_by_the_thread() -> None:
    texts = Texts()
    assert texts.read(10, lambda: "read").done()
    assert texts.read(10_000_000, lambda: "read").result(20) == "read"


def test_error_of_a_short_text_is_raised_where_its_result_is_asked_for() -> None:
    future = Texts().read(10, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        future.result()

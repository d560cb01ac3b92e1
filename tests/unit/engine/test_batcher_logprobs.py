"""Logprobs come with the step that drew their token, whatever of its text is held back."""

from corral.core.types import TokenChance, TokenLogprob
from corral.wire.link import StepFrame
from tests.support.toy_engine import Toy


def gains(toy: Toy) -> list[tuple[str, tuple[TokenLogprob, ...]]]:
    """Of all steps until nothing is left to do."""
    found = []
    while toy.batcher.has_work:
        for frame in toy.batcher.step():
            assert isinstance(frame, StepFrame)
            found += [(gain.text, gain.logprobs) for gain in frame.gains]
    return found


def test_without_being_asked_for_there_are_none() -> None:
    toy = Toy()
    toy.submit("abc", num_predict=5)
    assert {logprobs for _, logprobs in gains(toy)} == {()}


def test_each_token_has_its_own_and_the_likeliest_beside_it() -> None:
    toy = Toy()
    toy.submit("abc", num_predict=3, logprobs=2)
    for text, (logprob,) in gains(toy):
        assert logprob.piece == text.encode()
        assert logprob.top == (TokenChance(text.encode(), logprob.logprob), TokenChance(b"<end>", -100.0))


def test_of_the_token_alone_where_no_others_are_wanted() -> None:
    toy = Toy()
    toy.submit("abc", num_predict=1, logprobs=0)
    ((_, (logprob,)),) = gains(toy)
    assert logprob.top == ()


def test_a_token_whose_text_is_held_back_is_told_at_once() -> None:
    toy = Toy()
    free = toy.run("abc", num_predict=6).text
    held = Toy()
    held.submit("abc", num_predict=6, logprobs=0, stop=(free[:3] + "\x7f",))
    found = gains(held)
    assert [text for text, _ in found][:2] == ["", ""]
    assert [logprob.piece for _, logprobs in found for logprob in logprobs] == [char.encode() for char in free]

"""What an answer costs its client in the queue, however it ends."""

from pathlib import Path

import pytest

from corral.engine.fake import Script
from corral.sched.queue import Place
from corral.service.requests import GenerateRequest
from tests.support.inference_bench import Bench, bench
from tests.support.models import make_model

WORDS = [f"{number:03} " for number in range(50)]  # a token each, also by their size


async def place_after(b: Bench, events: int) -> Place:
    """The place of a request for six tokens' prompt whose client leaves after so many events."""
    async with b.inference.generate(GenerateRequest(model="m", prompt="a b c d e f", raw=True)) as answer:
        (runner,) = b.inference._scheduler._runners.values()
        (place,) = runner._places._held
        for _ in range(events):
            await anext(answer)
    return place


@pytest.mark.parametrize(
    ("events", "spent"), [(0, 4), (1, 5), (20, 24), (51, 55)], ids=["nothing", "one-word", "some-words", "all-of-it"]
)
async def test_who_leaves_pays_for_what_was_computed_and_seen(tmp_path: Path, events: int, spent: int) -> None:
    async with bench(make_model(tmp_path, "m"), scripts=[Script(WORDS, cached_tokens=2)]) as b:
        assert (await place_after(b, events)).spent == spent

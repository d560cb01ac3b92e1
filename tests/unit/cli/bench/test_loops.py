import asyncio
import itertools
import statistics
from collections.abc import Callable
from dataclasses import replace

from corral.cli.bench.loops import Until, arrivals_s, beside_streams, closed_loop, open_loop
from corral.cli.bench.sending import Sent
from corral.cli.bench.sources import Fresh
from corral.cli.bench.workloads import KINDS, LONG_PROMPT, Ask, long_prompt
from tests.support.bench_samples import sample


class Fake:
    """Answers of a few pieces, one turn of the loop apart; remembers how many ran at once."""

    def __init__(self, pieces: int = 10) -> None:
        self.pieces = pieces
        self.running = self.most = 0
        self.sent: list[tuple[str, int]] = []

    async def send(self, ask: Ask, *, client: int = -1, nth: int = 0, heard: Callable[[], None] = lambda: None) -> Sent:
        self.running += 1
        self.most = max(self.most, self.running)
        self.sent.append((ask.group, client))
        for _ in range(self.pieces):
            await asyncio.sleep(0)
            heard()
        self.running -= 1
        return Sent(sample(0, [1], 2, client=client, nth=nth, group=ask.group), "Yes.")


def fresh(name: str, count: int | None) -> Fresh:
    return Fresh(KINDS[name], KINDS[name].shape, "k", count)


async def test_a_closed_loop_has_as_many_requests_under_way_as_clients() -> None:
    fake = Fake()
    samples = await closed_loop(fake.send, fresh("chat", 12), 4, Until())
    assert len(samples) == 12
    assert fake.most == 4
    assert sorted((one.client, one.nth) for one in samples) == [(client, nth) for client in range(4) for nth in range(3)]


async def test_a_closed_loop_sends_nothing_when_time_is_up() -> None:
    assert await closed_loop(Fake().send, fresh("chat", None), 2, Until(at_ns=1)) == []


def test_arrivals_are_a_poisson_process_that_is_the_same_for_a_key() -> None:
    times = list(itertools.islice(arrivals_s(4.0, "k"), 4000))
    assert times == list(itertools.islice(arrivals_s(4.0, "k"), 4000))
    assert times[:3] != list(itertools.islice(arrivals_s(4.0, "other"), 3))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(gap > 0 for gap in gaps)
    assert abs(statistics.fmean(gaps) - 0.25) < 0.02
    assert abs(statistics.stdev(gaps) - 0.25) < 0.02  # of an exponential distribution, mean and deviation are the same


async def test_an_open_loop_sends_at_its_times_whatever_is_answered() -> None:
    fake = Fake(pieces=1000)
    samples = await open_loop(fake.send, fresh("chat", 5), itertools.repeat(0.0), Until())
    assert len(samples) == fake.most == 5


async def test_an_open_loop_sends_nothing_that_is_due_after_the_end() -> None:
    assert await open_loop(Fake().send, fresh("chat", None), itertools.repeat(1e9), Until(at_ns=1)) == []


async def test_a_long_prompt_is_sent_when_every_client_reads_a_stream() -> None:
    fake = Fake(pieces=50)
    long = Fresh(replace(KINDS["long"], draw=long_prompt), KINDS["long"].shape, "k", 2)
    samples = await beside_streams(fake.send, fresh("long", None), long, 3, Until())
    groups = [group for group, _ in fake.sent]
    assert groups[:4] == ["streams", "streams", "streams", LONG_PROMPT]
    assert groups.count(LONG_PROMPT) == 2
    assert len(samples) == len(fake.sent)
    assert fake.running == 0


async def test_answers_that_are_too_short_to_be_in_the_middle_of_keep_no_long_prompt_back() -> None:
    long = Fresh(replace(KINDS["long"], draw=long_prompt), KINDS["long"].shape, "k", 1)
    samples = await beside_streams(Fake(pieces=1).send, fresh("long", None), long, 2, Until())
    assert [one.group for one in samples].count(LONG_PROMPT) == 1

"""Which vocabularies are kept, for how long, and what becomes of those that nobody waits for any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.core.aio import cancelling
from corral.core.errors import ModelLoadError, QueueFullError, ServerStoppingError
from corral.core.settings import Settings
from corral.core.types import LoadSpec
from corral.core.units import FOREVER_S
from corral.engine.fake import FakeLauncher
from corral.sched import MOST_VOCABULARIES, Line, Vocabularies
from corral.sched.queue import WaitingRoom
from corral.store import Model
from tests.support.clock import FakeClock
from tests.support.models import make_model


@dataclass(frozen=True, slots=True)
class Bench:
    vocabularies: Vocabularies
    launcher: FakeLauncher
    clock: FakeClock
    folder: Path

    def model(self, name: str) -> Model:
        return make_model(self.folder, name)

    async def use(self, name: str, keep_alive_s: float | None = None, client: str = "") -> list[int]:
        async with self.vocabularies.lend(self.model(name), keep_alive_s=keep_alive_s, client=client) as lent:
            return await lent.engine.tokenize("two words")

    async def alive(self) -> list[str]:
        """Those in memory, once all that is under way has come to its end; the loads that failed were the first ones."""
        for _ in range(20):
            await asyncio.sleep(0)
        engines = self.launcher.engines
        pairs = zip(self.launcher.specs[-len(engines) :], engines, strict=False)
        return [Path(spec.model_path).stem for spec, engine in pairs if engine.is_alive]


def bench_of(folder: Path, *, load_timeout_s: float = 300.0, max_waiting: int = 512) -> Bench:
    launcher, clock = FakeLauncher(), FakeClock()
    settings = Settings(models=folder, keep_alive_s=60.0, load_timeout_s=load_timeout_s)
    line = Line(WaitingRoom(max_waiting), MOST_VOCABULARIES)
    return Bench(Vocabularies(launcher, line, settings, clock=clock), launcher, clock, folder)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = bench_of(tmp_path)
    yield made
    await made.vocabularies.aclose()
    assert await made.alive() == []


async def test_vocabulary_is_read_once_and_without_weights(bench: Bench) -> None:
    assert [await bench.use("a") for _ in range(3)] == [[0, 1]] * 3
    path = str(bench.folder / "a.gguf")
    assert bench.launcher.specs == [LoadSpec(model_path=path, n_ctx=0, n_parallel=MOST_VOCABULARIES, vocab_only=True)]


async def test_it_is_kept_as_long_as_a_model_and_from_its_last_use(bench: Bench) -> None:
    await bench.use("a")
    bench.clock.advance(59)
    await bench.use("a")
    bench.clock.advance(59)
    assert await bench.alive() == ["a"]
    bench.clock.advance(2)
    assert await bench.alive() == []


@pytest.mark.parametrize(("keep_alive_s", "left"), [(0.0, []), (5.0, []), (90.0, ["a"]), (FOREVER_S, ["a"])])
async def test_request_says_how_long(bench: Bench, keep_alive_s: float, left: list[str]) -> None:
    await bench.use("a", keep_alive_s)
    bench.clock.advance(61)
    assert await bench.alive() == left


async def test_the_one_that_was_not_used_for_longest_goes_for_another(bench: Bench) -> None:
    await bench.use("a")
    bench.clock.advance(1)
    await bench.use("b")
    bench.clock.advance(1)
    await bench.use("a")
    bench.clock.advance(1)
    await bench.use("c")
    assert await bench.alive() == ["a", "c"]


async def test_one_that_is_in_use_stays_and_the_next_waits_for_a_place(bench: Bench) -> None:
    async with AsyncExitStack() as held:
        for name in ("a", "b"):
            await held.enter_async_context(bench.vocabularies.lend(bench.model(name)))
        async with cancelling(bench.use("c"), name="waits") as waiting:
            assert await bench.alive() == ["a", "b"]
            await held.aclose()
            assert await waiting == [0, 1]
    assert await bench.alive() == ["b", "c"]


async def test_full_queue_refuses(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, max_waiting=0)
    async with AsyncExitStack() as held:
        for name in ("a", "b"):
            await held.enter_async_context(bench.vocabularies.lend(bench.model(name)))
        with pytest.raises(QueueFullError):
            await bench.use("a")
    await bench.vocabularies.aclose()


async def test_dead_worker_is_replaced(bench: Bench) -> None:
    await bench.use("a")
    bench.launcher.engines[0].is_alive = False
    await bench.use("a")
    assert len(bench.launcher.engines) == 2


@pytest.mark.parametrize(
    ("failure", "text"),
    [(ModelLoadError("no such file"), "no such file"), (RuntimeError("?"), r"cannot read the vocabulary of .*a\.gguf")],
)
async def test_load_that_fails_is_told_and_tried_again(bench: Bench, failure: Exception, text: str) -> None:
    bench.launcher.failure = failure
    with pytest.raises(ModelLoadError, match=text):
        await bench.use("a")
    assert await bench.use("a") == [0, 1]


async def test_load_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, load_timeout_s=0.001)
    bench.launcher.hold = asyncio.Event()
    with pytest.raises(ModelLoadError, match=r"was not read in 0\.001 seconds"):
        await bench.use("a")
    await bench.vocabularies.aclose()


async def test_client_that_leaves_while_it_is_read_leaves_it_to_the_next(bench: Bench) -> None:
    bench.launcher.hold = asyncio.Event()
    async with cancelling(bench.use("a"), name="leaves"):
        await asyncio.sleep(0)
    async with cancelling(bench.use("a"), name="stays") as staying:
        await asyncio.sleep(0)
        bench.launcher.hold.set()
        assert await staying == [0, 1]
    assert len(bench.launcher.specs) == 1


async def test_load_that_nobody_waits_for_is_stopped_when_another_wants_its_place(bench: Bench) -> None:
    bench.launcher.hold = asyncio.Event()
    for name in "abcdef":
        async with cancelling(bench.use(name), name="leaves"):
            await asyncio.sleep(0)
    bench.launcher.hold.set()
    assert await bench.alive() == ["e", "f"]
    assert len(bench.launcher.engines) == MOST_VOCABULARIES


async def test_server_that_stops_ends_all_and_tells_who_waits(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    await bench.use("a")
    bench.launcher.hold = asyncio.Event()
    async with cancelling(refused(bench, "b"), name="waits") as waiting:
        await asyncio.sleep(0)
        await bench.vocabularies.aclose()
        await bench.vocabularies.aclose()
        await waiting
    await refused(bench, "a")
    assert not any(engine.is_alive for engine in bench.launcher.engines)


async def refused(bench: Bench, name: str) -> None:
    with pytest.raises(ServerStoppingError):
        await bench.use(name)

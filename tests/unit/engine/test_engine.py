"""The server's side of an engine, on a worker that only listens."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest
from msgspec.structs import replace

from corral.core.errors import ContextOverflowError, EngineCrashedError, EngineError, EngineLostError
from corral.core.types import Begun, EngineInfo, Finish, Job, Step, TokenChance, TokenLogprob
from corral.engine.llamacpp.engine import LlamaCppEngine
from corral.engine.llamacpp.process import WorkerProcess
from corral.wire.link import (
    Attach,
    CallFailed,
    Cancel,
    Frame,
    Gain,
    JobFailed,
    Limit,
    Loaded,
    Overflow,
    StepFrame,
    Submit,
    Taken,
    Tokenize,
    Tokens,
)

JOB = Job(prompt="hi", num_ctx=10)
FINISH = Finish(reason="stop", prompt_tokens=1, cached_tokens=0, prompt_ns=1, eval_tokens=1, eval_ns=1)
INFO = EngineInfo(n_ctx=10, n_ctx_train=10, n_parallel=2, size_bytes=1, vram_bytes=0, can_shift=True)


class Listener(WorkerProcess):
    """A worker without a process: it keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.is_alive = True
        self.told: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.told.append(frame)


LOGPROBS = (TokenLogprob(b"x", -0.5),)


@pytest.fixture
def worker() -> Listener:
    return Listener()


@pytest.fixture
def engine(worker: Listener) -> LlamaCppEngine:
    return LlamaCppEngine(worker, INFO)


async def test_steps_come_as_they_are_gained_and_end_with_the_finish(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        assert worker.told == [Submit(1, JOB)]
        worker.on_frame(StepFrame([Gain(1, "a")]))
        assert await anext(steps) == Step("a")
        worker.on_frame(StepFrame([Gain(1, "b"), Gain(99, "nobody's")]))
        worker.on_frame(StepFrame([Gain(1, "c", FINISH)]))
        assert [step async for step in steps] == [Step("b"), Step("c", FINISH)]
    assert worker.told == [Submit(1, JOB)]


async def test_large_media_go_ahead_of_their_job_in_pieces(engine: LlamaCppEngine, worker: Listener) -> None:
    media = (b"a" * 600_000, b"", b"b")
    async with engine.generate(replace(JOB, media=media)) as steps:
        *pieces, submit = worker.told
        assert submit == Submit(1, JOB)
        assert all(isinstance(piece, Attach) and piece.job_id == 1 and len(piece.data) <= 1 << 18 for piece in pieces)
        came = [b"".join(p.data for p in pieces if isinstance(p, Attach) and p.number == number) for number in range(3)]
        assert tuple(came) == media
        worker.on_frame(StepFrame([Gain(1, "a", FINISH)]))
        assert [step async for step in steps] == [Step("a", FINISH)]


async def test_a_piece_waits_until_the_worker_has_taken_the_one_before(engine: LlamaCppEngine, worker: Listener) -> None:
    worker.pause_writing()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), engine.generate(replace(JOB, media=(b"a" * 600_000,))):
            raise AssertionError("it was not submitted")
    assert worker.told == [Attach(1, 0, b"a" * (1 << 18)), Cancel(1)]


async def test_reader_that_lags_far_behind_gets_all_that_has_come_at_once(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        for number in range(100):
            worker.on_frame(StepFrame([Gain(1, str(number % 10), None, LOGPROBS[:1])]))
        worker.on_frame(StepFrame([Gain(1, "end", FINISH)]))
        assert [step async for step in steps] == [Step("0123456789" * 10 + "end", FINISH, LOGPROBS[:1] * 100)]


async def test_the_first_step_tells_how_the_job_began(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(StepFrame([Gain(1, "a", None, (), Begun(9, 4))]))
        worker.on_frame(StepFrame([Gain(1, "b")]))
        assert await anext(steps) == Step("a", None, (), Begun(9, 4))
        worker.on_frame(StepFrame([Gain(1, "c", FINISH)]))
        assert [step async for step in steps] == [Step("b"), Step("c", FINISH)]


async def test_jobs_get_their_own_gains(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as one, engine.generate(JOB) as two:
        worker.on_frame(StepFrame([Gain(2, "two", FINISH), Gain(1, "one", FINISH)]))
        assert await anext(one) == Step("one", FINISH)
        assert await anext(two) == Step("two", FINISH)


async def test_leaving_before_the_end_cancels_the_job(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(StepFrame([Gain(1, "a")]))
        await anext(steps)
    assert worker.told[1:] == [Cancel(1)]
    worker.on_frame(StepFrame([Gain(1, "late")]))


async def test_leaving_by_an_error_cancels_the_job(engine: LlamaCppEngine, worker: Listener) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.raises(ZeroDivisionError))
        await stack.enter_async_context(engine.generate(JOB))
        raise ZeroDivisionError
    assert worker.told[1:] == [Cancel(1)]


async def test_overflow_is_raised_with_both_numbers(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(Overflow(1, 11, 10))
        with pytest.raises(ContextOverflowError) as caught:
            await anext(steps)
    assert (caught.value.prompt_tokens, caught.value.num_ctx) == (11, 10)
    assert len(worker.told) == 1


async def test_job_that_failed_gives_its_text_first_and_then_the_reason(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(StepFrame([Gain(1, "a")]))
        worker.on_frame(JobFailed(1, "llama_decode gave -3"))
        assert await anext(steps) == Step("a")
        with pytest.raises(EngineError, match="llama_decode gave -3"):
            await anext(steps)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_death_of_the_worker_is_told_as_before_or_in_the_answer(
    engine: LlamaCppEngine, worker: Listener, has_begun: bool
) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(Taken(1))
        if has_begun:
            worker.on_frame(StepFrame([Gain(1, "a")]))
            await anext(steps)
        worker.is_alive = False
        worker.on_death()
        with pytest.raises(EngineCrashedError) as caught:
            await anext(steps)
    assert str(caught.value) == str(EngineCrashedError(mid_answer=has_begun))
    assert not isinstance(caught.value, EngineLostError)
    with pytest.raises(EngineCrashedError):
        await engine.tokenize("hi")


async def test_job_that_a_dead_worker_never_had_is_lost_and_nothing_else(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as taken, engine.generate(JOB) as lost:
        worker.on_frame(Taken(1))
        worker.is_alive = False
        worker.on_death()
        for steps, is_lost in ((taken, False), (lost, True)):
            with pytest.raises(EngineCrashedError, match="model runner has unexpectedly stopped") as caught:
                await anext(steps)
            assert isinstance(caught.value, EngineLostError) == is_lost
    async with AsyncExitStack() as stack:
        with pytest.raises(EngineLostError):
            await stack.enter_async_context(engine.generate(JOB))


async def test_answer_that_is_complete_is_given_though_the_worker_died(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        worker.on_frame(StepFrame([Gain(1, "a", FINISH)]))
        worker.on_death()
        assert [step async for step in steps] == [Step("a", FINISH)]


async def test_answer_that_nobody_reads_is_given_up(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps:
        for _ in range(4):
            worker.on_frame(StepFrame([Gain(1, "x" * (1 << 20))]))
        assert worker.told[1:] == [Cancel(1)]
        for _ in range(4):
            await anext(steps)
        with pytest.raises(EngineError, match="not read"):
            await anext(steps)


async def test_logprobs_that_nobody_reads_count_too(engine: LlamaCppEngine, worker: Listener) -> None:
    chances = tuple(TokenChance(b"x", -1.0) for _ in range(20))
    async with engine.generate(JOB):
        for _ in range(4_000):
            worker.on_frame(StepFrame([Gain(1, "", None, (TokenLogprob(b"x", -0.5, chances),))]))
        assert Cancel(1) in worker.told


async def test_tokenize_gets_its_own_reply(engine: LlamaCppEngine, worker: Listener) -> None:
    async with asyncio.TaskGroup() as group:
        one = group.create_task(engine.tokenize("one"))
        two = group.create_task(engine.tokenize("two", add_special=False))
        await asyncio.sleep(0)
        assert worker.told == [Tokenize(1, "one", add_special=True), Tokenize(2, "two", add_special=False)]
        worker.on_frame(Tokens(2, [2]))
        worker.on_frame(Tokens(1, [1]))
        worker.on_frame(Tokens(77, [7]))
    assert (one.result(), two.result()) == ([1], [2])


async def test_info_follows_the_worker(engine: LlamaCppEngine, worker: Listener) -> None:
    grown = EngineInfo(n_ctx=10, n_ctx_train=10, n_parallel=2, size_bytes=9, vram_bytes=0, can_shift=True)
    worker.on_frame(Loaded(grown))
    assert engine.info == grown


class Speechless(Listener):
    """A worker to which nothing of these kinds can be said."""

    def send(self, frame: Frame) -> None:
        if isinstance(frame, Submit | Tokenize):
            raise OverflowError("int too big to convert")
        super().send(frame)


async def test_what_cannot_be_sent_is_raised_and_leaves_nothing_behind() -> None:
    engine = LlamaCppEngine(Speechless(), INFO)
    with pytest.raises(OverflowError):
        await engine.tokenize("hi")
    async with AsyncExitStack() as stack:
        with pytest.raises(OverflowError):
            await stack.enter_async_context(engine.generate(JOB))
    assert not engine._calls
    assert not engine._streams


async def test_tokenize_of_a_text_that_is_refused_fails_alone(engine: LlamaCppEngine, worker: Listener) -> None:
    async with engine.generate(JOB) as steps, asyncio.TaskGroup() as tasks:
        refused = tasks.create_task(error_of_tokenize(engine))
        await asyncio.sleep(0)
        worker.on_frame(CallFailed(2, "cannot tokenize"))
        worker.on_frame(CallFailed(99, "nobody's"))
        worker.on_frame(StepFrame([Gain(1, "a", FINISH)]))
        assert await anext(steps) == Step("a", FINISH)
    assert refused.result() == "cannot tokenize"


async def error_of_tokenize(engine: LlamaCppEngine) -> str:
    with pytest.raises(EngineError) as caught:
        await engine.tokenize("x")
    return str(caught.value)


def test_change_of_what_it_takes_is_told(engine: LlamaCppEngine, worker: Listener) -> None:
    told = list[int]()
    engine.on_change = lambda: told.append(engine.info.size_bytes)
    worker.on_frame(Loaded(msgspec.structs.replace(INFO, size_bytes=2)))
    assert told == [2]


def test_limit_is_passed_on_when_it_changes(engine: LlamaCppEngine, worker: Listener) -> None:
    for limit in (0, 5, 5, 7):
        engine.set_limit(limit)
    assert worker.told == [Limit(5), Limit(7)]

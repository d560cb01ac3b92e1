"""How models are launched: on workers without a process, which say what they are told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from corral.core.aio import cancelling
from corral.core.errors import ModelLoadError, ServerStoppingError
from corral.core.types import EngineInfo, LoadSpec
from corral.engine.llamacpp import LlamaCppLauncher
from corral.engine.llamacpp.process import WorkerProcess, lines
from corral.wire.link import Frame, Hello, Load, Loaded, LoadFailed, Progress, encode

SPEC = LoadSpec(model_path="/m.gguf", n_ctx=10, n_parallel=2)
INFO = EngineInfo(n_ctx=10, n_ctx_train=10, n_parallel=2, size_bytes=1, vram_bytes=0, can_shift=True)


class PuppetWorker(WorkerProcess):
    def __init__(self, *replies: Frame) -> None:
        super().__init__()
        self.is_alive = True
        self.replies = replies
        self.was_told = asyncio.Event()
        self.is_ended = False

    def send(self, frame: Frame) -> None:
        encode(frame)
        assert isinstance(frame, Load)
        self.was_told.set()
        self.say(*self.replies)

    def say(self, *frames: Frame) -> None:
        for frame in frames:
            self.on_frame(frame)  # type: ignore[arg-type]

    def die(self, *last_words: str) -> None:
        self.last_words.extend(last_words)
        self.is_alive = False
        self.on_death()

    async def aclose(self) -> None:
        self.is_ended = True

    async def kill(self) -> None:
        self.is_ended = True


class Stage:
    """A launcher, and the workers that it starts: those of `cast`, in order."""

    def __init__(self, *cast: PuppetWorker | Exception) -> None:
        self.cast = list(cast)
        self.started = 0
        self.launcher = LlamaCppLauncher(start=self.start, keeps_standby=False)

    async def start(self) -> WorkerProcess:
        self.started += 1
        worker = self.cast.pop(0)
        if isinstance(worker, Exception):
            raise worker
        asyncio.get_running_loop().call_soon(lambda: worker.say(Hello(("GPU0",), gpu_total_bytes=7)))
        return worker


@asynccontextmanager
async def stage(*cast: PuppetWorker | Exception) -> AsyncIterator[Stage]:
    made = Stage(*cast)
    yield made
    await made.launcher.aclose()


def no_progress(_share: float) -> None:
    pass


async def test_launch_gives_an_engine_and_knows_the_gpu_from_then_on() -> None:
    shares = list[float]()
    async with stage(PuppetWorker(Progress(0.5), Loaded(INFO))) as s:
        assert s.launcher.gpu_total_bytes == 0
        engine = await s.launcher.launch(SPEC, shares.append)
        assert engine.info == INFO
        assert shares == [0.5]
        assert s.launcher.gpu_total_bytes == 7


async def test_a_process_that_cannot_be_started_is_a_load_that_failed() -> None:
    async with stage(OSError(12, "Cannot allocate memory"), PuppetWorker(Loaded(INFO))) as s:
        with pytest.raises(ModelLoadError, match="no worker process can be started: Cannot allocate memory"):
            await s.launcher.launch(SPEC, no_progress)
        await s.launcher.launch(SPEC, no_progress)


async def test_a_worker_that_dies_before_its_hello_is_told_with_its_last_words() -> None:
    worker = PuppetWorker()
    async with stage(worker) as s, asyncio.TaskGroup() as tasks:
        load = tasks.create_task(error_of(s, SPEC))
        await asyncio.sleep(0)
        worker.die("no libgomp")
    assert load.result() == "the worker process could not start: no libgomp"
    assert worker.is_ended


async def test_a_worker_that_dies_while_it_loads_is_told_with_its_last_words() -> None:
    worker = PuppetWorker()
    async with stage(worker) as s, asyncio.TaskGroup() as tasks:
        load = tasks.create_task(error_of(s, SPEC))
        await worker.was_told.wait()
        worker.die("Killed")
    assert load.result() == "the worker died while it loaded /m.gguf: Killed"


async def error_of(s: Stage, spec: LoadSpec) -> str:
    try:
        await s.launcher.launch(spec, no_progress)
    except ModelLoadError as error:
        return str(error)
    return "none"


@pytest.mark.parametrize(
    ("spec", "reply", "error"),
    [
        pytest.param(SPEC, LoadFailed("no such file"), ModelLoadError, id="load-failed"),
        pytest.param(LoadSpec(model_path="", n_ctx=1 << 70, n_parallel=1), Loaded(INFO), OverflowError, id="cannot-be-encoded"),
    ],
)
async def test_a_launch_that_fails_in_any_way_ends_its_worker(spec: LoadSpec, reply: Frame, error: type[Exception]) -> None:
    worker = PuppetWorker(reply)
    async with stage(worker) as s:
        with pytest.raises(error):
            await s.launcher.launch(spec, no_progress)
        assert worker.is_ended


async def test_a_launch_that_is_cancelled_ends_its_worker_and_hears_of_no_more_progress() -> None:
    worker, shares = PuppetWorker(Progress(0.1)), list[float]()
    async with stage(worker) as s:
        async with cancelling(s.launcher.launch(SPEC, shares.append), name="load"):
            await worker.was_told.wait()
        worker.say(Progress(0.9))
        assert worker.is_ended
        assert shares == [0.1]


async def test_a_launcher_that_is_closed_starts_nothing() -> None:
    async with stage(PuppetWorker()) as s:
        await s.launcher.aclose()
        with pytest.raises(ServerStoppingError):
            await s.launcher.launch(SPEC, no_progress)
        with pytest.raises(ServerStoppingError):
            await s.launcher.devices()
        assert s.started == 0


@pytest.mark.parametrize(
    ("pieces", "heard"),
    [
        pytest.param([b"a\nb", b"c\n\nd"], ["a", "bc", "d"], id="cut-anywhere"),
        pytest.param(
            [b"x" * 200_000 + b"\nafter\n"], ["x" * 4096] * 48 + ["x" * (200_000 - 48 * 4096), "after"], id="very-long"
        ),
        pytest.param([b"\xff\n"], ["\ufffd"], id="no-utf-8"),
        pytest.param([], [], id="silent"),
    ],
)
async def test_lines_are_heard_whatever_is_in_them(pieces: list[bytes], heard: list[str]) -> None:
    stream = asyncio.StreamReader()
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    said = [line async for line in lines(stream)]
    assert "".join(said) == "".join(heard)
    assert max(map(len, said), default=0) <= 4096
    assert said[-1:] == heard[-1:]

"""How engines begin and end: loading, cancelling, dying, and leaving nothing behind."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from corral.core.aio import cancelling
from corral.core.errors import EngineCrashedError, ModelLoadError, ServerStoppingError
from corral.engine.llamacpp import LlamaCppLauncher
from corral.engine.llamacpp.process import WorkerProcess
from tests.support.gguf_files import write_random, write_scripted
from tests.support.live_engine import Watch, ask, job_of, launched, spec_of

SAY = "Hello, I am here."
MID_ANSWER = "an error was encountered while running the model: unexpected EOF"
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
CHILD = """
import asyncio, json, sys
from pathlib import Path
from tests.support.live_engine import job_of, launched

async def main() -> None:
    async with launched(Path(sys.argv[1])) as engine, engine.generate(job_of("hi", num_predict=-1)) as steps:
        await anext(steps)
        print(json.dumps(engine.pid), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def scripted(folder: Path) -> Path:
    return write_scripted(folder / "scripted.gguf", SAY)


@pytest.fixture(scope="module")
def endless(folder: Path) -> Path:
    return write_random(folder / "random.gguf", context=65536, width=128, layers=4)


@pytest.fixture
async def launcher() -> AsyncIterator[LlamaCppLauncher]:
    launcher = LlamaCppLauncher()
    yield launcher
    await launcher.aclose()


def no_progress(_share: float) -> None:
    pass


# Loading


async def test_launch_tells_its_progress(launcher: LlamaCppLauncher, scripted: Path) -> None:
    shares = list[float]()
    engine = await launcher.launch(spec_of(scripted), shares.append)
    await engine.aclose()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_devices_are_told_before_any_model_is_loaded(launcher: LlamaCppLauncher) -> None:
    devices = await launcher.devices()
    assert devices
    assert any(line.startswith("CPU") for line in devices)


def cut(path: Path, size: int) -> Callable[[Path], Path]:
    def write(target: Path) -> Path:
        target.write_bytes(write_scripted(target, SAY).read_bytes()[:size])
        return target

    return write


def text(target: Path) -> Path:
    target.write_text("<html>not found</html>" * 100)
    return target


def nothing(target: Path) -> Path:
    target.touch()
    return target


def unknown(target: Path) -> Path:
    return write_scripted(target, SAY, arch="warp9")


def missing(target: Path) -> Path:
    return target


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        pytest.param(missing, "is not there", id="missing"),
        pytest.param(nothing, "failed to read magic", id="empty"),
        pytest.param(text, "invalid magic characters: '<htm', expected 'GGUF'", id="no-gguf"),
        pytest.param(cut(Path(), 3000), "failed to read key-value pairs", id="cut-in-the-header"),
        pytest.param(cut(Path(), -40_000), "data is not within the file bounds, model is corrupted or incomplete", id="cut"),
        pytest.param(unknown, "unknown model architecture: 'warp9'", id="unknown-architecture"),
    ],
)
async def test_file_that_cannot_be_loaded_is_named_with_the_reason(
    launcher: LlamaCppLauncher, tmp_path: Path, write: Callable[[Path], Path], reason: str
) -> None:
    path = write(tmp_path / "model.gguf")
    with pytest.raises(ModelLoadError) as caught:
        await launcher.launch(spec_of(path), no_progress)
    said = str(caught.value)
    assert reason in said
    assert str(path) in said
    assert said.count(str(path)) == 1
    assert "llama_model_loader" not in said
    assert "error loading" not in said


async def test_launcher_loads_the_next_model_after_one_that_failed(
    launcher: LlamaCppLauncher, scripted: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelLoadError):
        await launcher.launch(spec_of(text(tmp_path / "bad.gguf")), no_progress)
    engine = await launcher.launch(spec_of(scripted), no_progress)
    try:
        assert (await ask(engine, "hi")).text == SAY
    finally:
        await engine.aclose()


async def test_cancel_during_load_leaves_no_process(launcher: LlamaCppLauncher, scripted: Path) -> None:
    await launcher.devices()  # the standby worker is up
    pid = standby_pid(launcher)
    os.kill(pid, signal.SIGSTOP)  # it never gets to load
    with Watch(pid) as worker:
        async with cancelling(launcher.launch(spec_of(scripted), no_progress), name="load"):
            await asyncio.sleep(0)
        assert worker.is_gone()


async def test_cancel_on_progress_leaves_no_process(launcher: LlamaCppLauncher, scripted: Path) -> None:
    await launcher.devices()
    has_begun = asyncio.Event()
    with Watch(standby_pid(launcher)) as worker:
        async with cancelling(launcher.launch(spec_of(scripted), lambda _share: has_begun.set()), name="load") as load:
            await has_begun.wait()
            load.cancel()
        assert worker.is_gone()


async def test_cancel_while_the_worker_starts_spoils_nothing(launcher: LlamaCppLauncher, scripted: Path) -> None:
    async with cancelling(launcher.devices(), name="devices"):
        await asyncio.sleep(0)
        async with launcher._starting:  # the process is started then, and its Hello waited for
            assert launcher._standby
    engine = await launcher.launch(spec_of(scripted), no_progress)
    try:
        assert (await ask(engine, "hi")).text == SAY
    finally:
        await engine.aclose()


async def test_start_that_is_cancelled_at_any_point_leaves_no_process_and_no_socket() -> None:
    """Each try is cancelled one turn of the event loop later than the one before, until one gets through."""
    us = psutil.Process()
    others = set(us.children())  # servers of other tests
    first = await WorkerProcess.start(debug=False)
    await first.kill()
    await first.aclose()
    most_files = us.num_fds() + 3  # what the loop keeps for good, or has not closed yet; a leak in every turn is far more
    for turns in range(1, 100):
        async with cancelling(WorkerProcess.start(debug=False), name="start") as start:
            for _ in range(turns):
                await asyncio.sleep(0)
        if not start.cancelled():
            await start.result().kill()
            break
        async with asyncio.timeout(10):
            while set(us.children()) - others or us.num_fds() > most_files:  # noqa: ASYNC110  the kernel sets no event
                await asyncio.sleep(0)
    assert turns > 3


def standby_pid(launcher: LlamaCppLauncher) -> int:
    assert launcher._standby
    return launcher._standby.worker.pid


# Standing by


async def test_standby_that_died_is_replaced(launcher: LlamaCppLauncher, scripted: Path) -> None:
    await launcher.devices()
    assert launcher._standby
    first = launcher._standby.worker
    os.kill(first.pid, signal.SIGKILL)
    await first.dead.wait()
    engine = await launcher.launch(spec_of(scripted), no_progress)
    try:
        assert engine.pid != first.pid
        assert (await ask(engine, "hi")).text == SAY
    finally:
        await engine.aclose()


async def test_launcher_that_closes_leaves_no_process(scripted: Path) -> None:
    launcher = LlamaCppLauncher()
    await launcher.devices()
    with Watch(standby_pid(launcher)) as worker:
        await launcher.aclose()
        assert worker.is_gone()
        await launcher.aclose()


# Ending


async def test_closed_engine_leaves_no_process_and_says_so(scripted: Path) -> None:
    async with launched(scripted) as engine:
        with Watch(engine.pid) as worker:
            await engine.aclose()
            assert worker.is_gone()
        assert not engine.is_alive
        with pytest.raises(EngineCrashedError):
            await ask(engine, "hi")
        with pytest.raises(EngineCrashedError):
            await engine.tokenize("hi")
        await engine.aclose()


async def test_close_in_mid_answer_fails_the_answer(endless: Path) -> None:
    async with launched(endless) as engine, engine.generate(job_of("hi")) as steps:
        await anext(steps)
        await engine.aclose()
        with pytest.raises(ServerStoppingError, match="the server is shutting down"):
            async for _ in steps:
                pass


async def test_worker_killed_in_mid_answer_fails_the_answer_at_once(endless: Path) -> None:
    async with launched(endless) as engine, engine.generate(job_of("hi")) as steps:
        await anext(steps)
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            with pytest.raises(EngineCrashedError) as caught:
                async for _ in steps:
                    pass
        assert str(caught.value) == MID_ANSWER
        assert not engine.is_alive


async def test_worker_killed_before_the_first_word_fails_the_answer_at_once(endless: Path) -> None:
    async with launched(endless) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        async with engine.generate(job_of("hi")) as steps:
            os.kill(engine.pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                with pytest.raises(EngineCrashedError) as caught:
                    await anext(steps)
        assert str(caught.value) == STOPPED
        with pytest.raises(EngineCrashedError, match=STOPPED):
            await ask(engine, "hi")


async def test_worker_killed_fails_a_tokenize_that_waits(scripted: Path) -> None:
    async with launched(scripted) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        async with cancelling(engine.tokenize("hi"), name="tokenize") as call:
            await asyncio.sleep(0)
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(EngineCrashedError):
                await call


# Leaving


async def test_leaving_in_mid_prefill_frees_the_place_at_once(endless: Path) -> None:
    """One token a step: the whole prompt would take far longer than the other job is given."""
    async with launched(endless, n_ctx=40_000, n_parallel=1, num_batch=1) as engine:
        async with engine.generate(job_of("x" * 39_000, num_ctx=40_000)):
            await engine.tokenize("hi")  # answered between two steps: the job is on its way
        async with asyncio.timeout(4):
            answer = await ask(engine, "hello", num_predict=2)
    assert answer.finish.eval_tokens == 2


async def test_leaving_in_mid_answer_frees_the_place_at_once(endless: Path) -> None:
    async with launched(endless, n_parallel=1) as engine:
        for _ in range(3):
            async with engine.generate(job_of("hi")) as steps:
                await anext(steps)
        answer = await ask(engine, "hi", num_predict=2)
    assert answer.finish.cached_tokens == answer.finish.prompt_tokens - 1


def test_worker_ends_when_its_parent_dies(endless: Path) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(endless)], cwd=root, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    with contextlib.closing(child.stdout) as said, Watch(json.loads(said.readline())) as worker:
        child.kill()
        child.wait()
        assert worker.is_gone(wait_s=10)

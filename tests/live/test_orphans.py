"""Workers whose server was killed end at once, also in the middle of a long native call."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.gguf_files import write_scripted
from tests.support.live_engine import Watch

_SERVER = """
import asyncio, sys
from pathlib import Path
from tests.support.live_engine import launched, ask

async def main():
    path, what = Path(sys.argv[1]), sys.argv[2]
    async with launched(path, n_ctx=512, vocab_only=what == "vocabulary") as engine:
        print(engine.pid, flush=True)
        text = "word and " * 880_000
        await (engine.tokenize(text) if what == "vocabulary" else ask(engine, text))

asyncio.run(main())
"""
_AT_WORK_S = 0.3


@pytest.mark.parametrize("what", ["vocabulary", "model"])
def test_worker_ends_with_its_server_while_it_reads_a_long_text(tmp_path: Path, what: str) -> None:
    path = write_scripted(tmp_path / "m.gguf", "Hello", bos="<s>")
    with subprocess.Popen([sys.executable, "-c", _SERVER, str(path), what], stdout=subprocess.PIPE) as server:
        assert server.stdout
        worker = psutil.Process(int(server.stdout.readline()))
        with Watch(worker.pid) as watch:
            idle_s = worker.cpu_times().user
            while worker.cpu_times().user < idle_s + _AT_WORK_S:
                assert not watch.is_gone(0.01)
            server.kill()
            assert watch.is_gone(1)

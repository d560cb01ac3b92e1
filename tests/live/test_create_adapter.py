"""A LoRA adapter in PEFT's files, converted in a child process and run: it does what adding it to the weights does."""

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil
import pytest

from corral.core.errors import EngineError
from corral.engine.llamacpp import LlamaCppWorkshop
from corral.engine.llamacpp.errand import run_errand
from corral.service.create import CreateRequest, CreateService
from corral.store import MODEL_LAYER, ModelName, Store
from tests.support.gguf_files import write_random
from tests.support.live_engine import Watch, ask, launched
from tests.support.stores import add_model

WIDTH, HEADS, RANK, ALPHA = 64, 4, 4, 16
MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
async def workshop() -> AsyncIterator[LlamaCppWorkshop]:
    made = LlamaCppWorkshop()
    yield made
    made.close()


def safetensors(tensors: dict[str, Any]) -> bytes:
    header, data = {}, b""
    for name, matrix in tensors.items():
        begin, data = len(data), data + matrix.tobytes()
        header[name] = {"dtype": "F32", "shape": matrix.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def add_to_weights(path: Path, delta: Any) -> None:
    """Adds `delta`, its rows as Hugging Face has them, to the first layer's query weights of that file."""
    (tensor,) = (tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "blk.0.attn_q.weight")
    head = WIDTH // HEADS
    order = [at * head + half * head // 2 + index for at in range(HEADS) for index in range(head // 2) for half in (0, 1)]
    data = bytearray(path.read_bytes())
    begin, end = int(tensor.data_offset), int(tensor.data_offset) + WIDTH * WIDTH * 2
    weights = np.frombuffer(bytes(data[begin:end]), np.float16).reshape(WIDTH, WIDTH).astype(np.float32)
    data[begin:end] = (weights + delta[order]).astype(np.float16).tobytes()
    path.write_bytes(data)


async def test_adapter_does_what_adding_it_to_the_weights_does(tmp_path: Path, workshop: LlamaCppWorkshop) -> None:
    base = await asyncio.to_thread(write_random, tmp_path / "base.gguf", width=WIDTH, heads=HEADS, layers=1)
    random = np.random.default_rng(7).standard_normal
    a, b = random((RANK, WIDTH)).astype(np.float32), random((WIDTH, RANK)).astype(np.float32)
    store = Store(tmp_path / "store")
    await asyncio.to_thread(add_model, store, "base", base)
    adapters = {
        "adapter_model.safetensors": safetensors({f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}),
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}).encode(),
    }
    digests = {name: store.put_blob(data, MODEL_LAYER)[0].digest for name, data in adapters.items()}
    service = CreateService(store, workshop)
    async with service.create(CreateRequest(model="tuned", from_model="base", adapters=digests)) as running:
        statuses = [status.status async for status in running]
    assert (statuses[0], statuses[-1]) == ("converting adapter", "success")
    await service.aclose()
    tuned = await asyncio.to_thread(store.get, ModelName.parse("tuned"))

    async with launched(base) as engine:
        before = (await ask(engine, "hello", num_predict=24)).text
    async with launched(base, adapter_paths=tuple(map(str, tuned.adapter_paths))) as engine:
        adapted = (await ask(engine, "hello", num_predict=24)).text
    await asyncio.to_thread(add_to_weights, base, b @ a * ALPHA / RANK)
    async with launched(base) as engine:
        merged = (await ask(engine, "hello", num_predict=24)).text
    assert adapted != before
    assert adapted == merged


async def test_errand_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^code was ended: it was not done after 1 seconds$"):
        await run_errand("code", [], scratch=tmp_path, limit_s=1)  # Python's prompt, which waits for what is typed


async def test_errand_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="No module named no_such_module"):
        await run_errand("no_such_module", [], scratch=tmp_path, limit_s=60)


async def test_errand_ends_with_its_server(tmp_path: Path) -> None:
    """The server's end of the standard input is closed when it dies; the child does not go on."""
    source = await asyncio.to_thread(write_random, tmp_path / "a.gguf", width=1024, ff=8192, layers=6, heads=8)
    script = (
        "import subprocess, sys, os\n"
        "child = subprocess.Popen([sys.executable, '-m', 'corral.engine.llamacpp.errands.quantize', *sys.argv[1:]],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(source), str(tmp_path / "b.gguf"), "11", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await server.communicate()
    with contextlib.suppress(ProcessLookupError), Watch(int(out)) as child:  # that error: gone already
        assert await asyncio.to_thread(child.is_gone, 20)
    assert not psutil.pid_exists(int(out)) or psutil.Process(int(out)).status() == psutil.STATUS_ZOMBIE

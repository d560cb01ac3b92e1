"""Quantizing for real: llama.cpp in a child process, by the whole create service, and the result runs."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from corral.core.errors import BadRequestError, EngineError
from corral.engine import QUANTIZATIONS
from corral.engine.llamacpp import LlamaCppWorkshop
from corral.service.create import CreateRequest, CreateService
from corral.service.requests import Status
from corral.store import MODEL_LAYER, Model, ModelName, Store, read_header
from tests.support.gguf_files import write_random, write_scripted
from tests.support.live_engine import ask, launched
from tests.support.stores import add_model


async def created(service: CreateService, store: Store, **request: Any) -> tuple[Model, list[Status]]:
    async with service.create(CreateRequest(**request)) as running:
        statuses = [status async for status in running]
    return await asyncio.to_thread(store.get, ModelName.parse(request["model"])), statuses


NEED_A_MATRIX = [name for name, known in QUANTIZATIONS.items() if known.needs_matrix]


@pytest.mark.parametrize("name", [name for name in QUANTIZATIONS if name not in NEED_A_MATRIX])
async def test_every_type_is_made(tmp_path: Path, workshop: LlamaCppWorkshop, name: str) -> None:
    """But for those that llama.cpp makes with an importance matrix only."""
    source, target = write_random(tmp_path / "a.gguf", width=256, ff=256, heads=4), tmp_path / "b.gguf"
    progress: list[int] = []
    await workshop.quantize(source, target, QUANTIZATIONS[name], on_progress=progress.append)
    header = read_header(target)
    assert header.metadata["general.file_type"] == QUANTIZATIONS[name].file_type
    assert progress == sorted(progress)
    sizes = [tensor.size_bytes for tensor in read_header(source).tensors]
    assert len(progress) == len(sizes)
    assert sum(sizes) - max(sizes) <= progress[-1] < sum(sizes)  # what is begun last is not done yet


@pytest.mark.parametrize("name", NEED_A_MATRIX)
async def test_type_that_needs_more_than_the_model_is_refused_with_the_reason(
    tmp_path: Path, workshop: LlamaCppWorkshop, name: str
) -> None:
    source = write_random(tmp_path / "a.gguf", width=256, ff=256)
    with pytest.raises(BadRequestError, match=rf"^cannot quantize to {name}: .*imatrix.* choose another type"):
        await workshop.quantize(source, tmp_path / "b.gguf", QUANTIZATIONS[name], on_progress=lambda _done: None)


async def test_file_that_llama_cpp_cannot_read_is_an_error_not_a_crash(tmp_path: Path, workshop: LlamaCppWorkshop) -> None:
    source = write_scripted(tmp_path / "a.gguf", "Hi!", arch="nonsense")
    with pytest.raises((BadRequestError, EngineError), match=r"^cannot quantize to Q8_0: |^the process that did it"):
        await workshop.quantize(source, tmp_path / "b.gguf", QUANTIZATIONS["Q8_0"], on_progress=lambda _done: None)


async def test_quantized_model_says_what_the_first_said(tmp_path: Path, store: Store, service: CreateService) -> None:
    await asyncio.to_thread(add_model, store, "base", write_scripted(tmp_path / "a.gguf", "Hello from a scripted model."))
    model, statuses = await created(service, store, model="small", from_model="base", quantize="q8_0")
    assert (model.config.file_type, model.gguf.file_type) == ("Q8_0", "Q8_0")
    assert any(status.status == "quantizing F16 model to Q8_0" for status in statuses)
    async with launched(model.model_path) as engine:
        assert (await ask(engine, "hi")).text == "Hello from a scripted model."


@pytest.mark.timeout(300)
async def test_smollm2_is_made_q4_0_by_way_of_f16_and_at_once(smollm2: Path, store: Store, service: CreateService) -> None:
    data = await asyncio.to_thread(smollm2.read_bytes)
    digest = (await asyncio.to_thread(store.put_blob, data, MODEL_LAYER))[0].digest
    async with service.create(CreateRequest(model="smollm2", files={"a.gguf": digest})) as running:
        assert [status.status async for status in running][-1] == "success"
    await created(service, store, model="smollm2:f16", from_model="smollm2", quantize="f16")
    by_f16, _ = await created(service, store, model="smollm2:q4_0", from_model="smollm2:f16", quantize="q4_0")
    at_once, statuses = await created(service, store, model="smollm2:again", from_model="smollm2", quantize="Q4_0")
    assert by_f16.config.file_type == at_once.config.file_type == "Q4_0"
    assert any(status.status.startswith("warning: Q4_1 weights are quantized already") for status in statuses)
    for model in (by_f16, at_once):
        assert model.template
        assert model.parameters["stop"]
        async with launched(model.model_path) as engine:
            prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
            assert "Paris" in (await ask(engine, prompt, num_predict=24, stop=("<|im_end|>",))).text


@pytest.mark.timeout(120)
async def test_client_that_leaves_ends_the_child_and_leaves_nothing(
    tmp_path: Path, store: Store, service: CreateService
) -> None:
    large = write_random(tmp_path / "a.gguf", width=1024, ff=8192, layers=6, heads=8)
    await asyncio.to_thread(add_model, store, "base", large)
    blobs = sorted(path.name for path in (store.root / "blobs").iterdir())
    running: list[psutil.Process] = []
    async with service.create(CreateRequest(model="m", from_model="base", quantize="q3_k_s")) as statuses:
        async for status in statuses:
            if status.completed:
                running = await asyncio.to_thread(_quantizing, store.root)
                break
    assert len(running) == 1
    assert not await asyncio.to_thread(_quantizing, store.root)
    assert sorted(path.name for path in (store.root / "blobs").iterdir()) == blobs
    assert list((store.root / ".creating").iterdir()) == []


def _quantizing(root: Path) -> list[psutil.Process]:
    """The processes that work on files of that store."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "corral.engine.llamacpp.errands.quantize" in line and any(str(root) in word for word in line):
            found.append(process)
    return found

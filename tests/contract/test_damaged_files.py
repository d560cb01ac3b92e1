"""Files whose metadata makes no sense, and names that are asked for in two ways: what a client sees of it."""

import hashlib
from pathlib import Path

import pytest

from corral.store import CONFIG_LAYER, MODEL_LAYER, ModelName, Store
from corral.wire.registry import Manifest
from tests.contract.conftest import Rig
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model


def written(store: Store, name: str, gguf: Path) -> None:
    """A model as a pull writes it: without a look into its file."""
    weights, _ = store.put_blob(gguf.read_bytes(), MODEL_LAYER)
    config, _ = store.put_blob(b'{"model_format":"gguf"}', CONFIG_LAYER)
    store.write_manifest(ModelName.parse(name), Manifest(config=config, layers=(weights,)))


async def test_one_damaged_model_breaks_no_list(rig: Rig, tmp_path: Path) -> None:
    endless = write_scripted(tmp_path / "x.gguf", "x", metadata={"llama.context_length": float("inf")})
    written(rig.corral.store, "endless", endless)
    answer = await rig.http.get("/api/tags")
    assert answer.status_code == 200
    assert [model["name"] for model in answer.json()["models"]] == ["hello:latest"]
    shown = await rig.http.post("/api/show", json={"model": "endless"})
    assert shown.status_code == 500
    assert shown.json()["error"].startswith(
        "model 'endless:latest' cannot be read: damaged GGUF: 'llama.context_length' is inf"
    )
    deleted = await rig.http.request("DELETE", "/api/delete", json={"model": "endless"})
    assert deleted.status_code == 200


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("general.file_type", [1, 2], "damaged GGUF: 'general.file_type' is [1, 2]; it must be a whole number"),
        ("llama.context_length", float("nan"), "damaged GGUF: 'llama.context_length' is nan; it must be a whole number up to"),
    ],
    ids=["array", "nan"],
)
async def test_file_that_makes_no_sense_is_refused_with_its_name(
    rig: Rig, tmp_path: Path, key: str, value: object, text: str
) -> None:
    data = write_scripted(tmp_path / "x.gguf", "x", metadata={key: value}).read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    await rig.http.post(f"/api/blobs/{digest}", content=data)
    answer = await rig.http.post("/api/create", json={"model": "new", "files": {"x.gguf": digest}})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"x.gguf: {text}")


async def test_name_with_a_scheme_and_without_is_one_running_model(rig: Rig, tmp_path: Path) -> None:
    add_model(rig.corral.store, "127.0.0.1:5/ns/m", write_scripted(tmp_path / "x.gguf", "x"))
    for name in ("http://127.0.0.1:5/ns/m", "127.0.0.1:5/ns/m"):
        answer = await rig.http.post("/api/generate", json={"model": name, "prompt": "Hi", "stream": False})
        assert answer.status_code == 200
    assert [model["name"] for model in (await rig.http.get("/api/ps")).json()["models"]] == ["127.0.0.1:5/ns/m:latest"]
    await rig.http.post("/api/generate", json={"model": "http://127.0.0.1:5/ns/m", "keep_alive": 0})
    assert (await rig.http.get("/api/ps")).json()["models"] == []

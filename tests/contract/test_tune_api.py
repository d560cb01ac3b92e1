"""POST /api/tune and `corral tune` as clients see them; the engines are played, and as quick as they are told to be."""

import json
from typing import Any

import pytest

from corral.core.options import Options
from corral.core.tuning import Tuned, Tuning, placement_of
from corral.sched import untuned_spec
from corral.store import ModelName, tuning_files
from tests.contract.conftest import Rig

NDJSON = "application/x-ndjson"


@pytest.fixture
def tuning(rig: Rig) -> Rig:
    """A server that is always alone on its machine."""

    async def is_quiet() -> bool:
        return True

    rig.corral.tune._is_quiet = is_quiet
    return rig


async def ask(rig: Rig, **body: Any) -> list[dict[str, Any]]:
    answer = await rig.http.post("/api/tune", json={"model": "hello", "rounds": 2, **body})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_the_stream_tells_what_is_measured_and_ends_with_the_report(tuning: Rig) -> None:
    lines = await ask(tuning)
    assert lines[0] == {"status": "loading hello:latest"}
    measuring = [line for line in lines if line["status"].startswith("measuring")]
    assert measuring[0]["status"] == "measuring default, round 1 of 2"
    assert all(line["total"] >= 2 for line in measuring)
    assert lines[-1]["status"] == "success"
    report = lines[-1]["report"]
    assert report["model"] == "hello:latest"
    assert report["load"]["rounds"] == 2
    assert report["results"][0]["name"] == "default"
    assert set(report["results"][0]["speeds"]) == {"prompt", "alone", "together", "forks"}
    assert {"chosen", "why", "is_stored", "machine", "elapsed_s"} <= set(report)
    assert not any(engine.is_alive for engine in tuning.launcher.engines)


async def test_without_a_stream_there_is_one_object(tuning: Rig) -> None:
    answer = await tuning.http.post("/api/tune", json={"model": "hello", "rounds": 1, "stream": False})
    assert answer.json()["status"] == "success"
    assert answer.json()["report"]["results"]


async def stored(rig: Rig) -> None:
    corral = rig.corral
    model = corral.store.get(ModelName.parse("hello"))
    spec = untuned_spec(model, Options.resolve(), corral.settings)
    choice = Tuning(
        files=tuning_files(model),
        machine=await corral.tuned.machine(),
        placement=placement_of(spec),
        settings=Tuned(num_batch=256, kv_unified=True),
        gain=1.2,
        measured_at="",
    )
    corral.store.put_tuning(choice)


async def test_a_stored_choice_is_used_until_it_is_cleared(tuning: Rig) -> None:
    await stored(tuning)
    chat = {"model": "hello", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert (await tuning.http.post("/api/chat", json=chat)).status_code == 200
    assert (tuning.launcher.specs[-1].num_batch, tuning.launcher.specs[-1].kv_unified) == (256, True)
    own = chat | {"options": {"num_batch": 128}}
    assert (await tuning.http.post("/api/chat", json=own)).status_code == 200
    assert tuning.launcher.specs[-1].num_batch == 128
    assert await ask(tuning, clear=True) == [{"status": "removed the tuned settings"}, {"status": "success"}]
    assert (await tuning.http.post("/api/chat", json=chat)).status_code == 200
    assert (tuning.launcher.specs[-1].num_batch, tuning.launcher.specs[-1].kv_unified) == (512, False)


async def test_deleting_the_model_removes_its_choice(tuning: Rig) -> None:
    await stored(tuning)
    assert (await tuning.http.request("DELETE", "/api/delete", json={"model": "hello"})).status_code == 200
    assert tuning.corral.store.tunings() == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "model is required"),
        ({"model": "nobody"}, 404, "model 'nobody' not found"),
        ({"model": "hello", "rounds": -1}, 400, "rounds is -1; it must be from 1 to 20"),
        ({"model": "hello", "budget": 1e9}, 400, "budget is 1e+09; it must be seconds, more than 0 and at most a day"),
        ({"model": "hello", "rounds": "many"}, 400, "rounds"),
        ({"model": "../../etc/passwd"}, 400, "invalid model name"),
    ],
    ids=["no-model", "unknown", "rounds", "budget", "type", "path"],
)
async def test_what_is_asked_wrong_is_said(tuning: Rig, body: dict[str, Any], status: int, words: str) -> None:
    answer = await tuning.http.post("/api/tune", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert tuning.launcher.specs == []


async def test_a_model_in_use_is_a_conflict(tuning: Rig) -> None:
    model = tuning.corral.store.get(ModelName.parse("hello"))
    async with tuning.corral.scheduler.lease(model, Options.resolve()):
        answer = await tuning.http.post("/api/tune", json={"model": "hello"})
    assert answer.status_code == 409
    assert answer.json() == {"error": "hello:latest is in use; try again when no request for it runs or waits"}


async def test_it_is_in_the_document(rig: Rig) -> None:
    document = (await rig.http.get("/openapi.json")).json()
    assert "TuneRequest" in json.dumps(document["paths"]["/api/tune"]["post"])

"""Clients that leave: in the queue, during a load, before the first token, in mid-answer, streaming or not."""

import asyncio
import json
from typing import Any

import pytest

from corral.engine.fake import Script
from tests.contract.conftest import Rig
from tests.support.asgi import Call, ask, scope

HI: dict[str, Any] = {"model": "hello", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}


class Gate:
    """Holds a script at one of its pieces, and tells when it got there."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._never = asyncio.Event()
        self.is_reached = asyncio.Event()

    def __call__(self, index: int) -> asyncio.Event | None:
        if index != self._at:
            return None
        self.is_reached.set()
        return self._never


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("piece", [0, 2], ids=["before the first token", "in mid-answer"])
async def test_a_client_that_leaves_frees_its_place(rig: Rig, path: str, stream: bool, piece: int) -> None:
    gate, call = Gate(piece), Call()
    rig.launcher.scripts.append(Script(("a", "b", "c"), gate=gate))
    body = json.dumps(HI | {"stream": stream}).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(rig.corral.asgi, path=path, body=body, call=call))
        await gate.is_reached.wait()
        assert rig.launcher.engines[0].running == 1
        call.leave()
    assert rig.launcher.engines[0].running == 0
    assert (await rig.http.post(path, json=HI)).status_code == 200


async def test_a_client_that_leaves_during_a_load_is_let_go(rig: Rig) -> None:
    rig.launcher.hold = asyncio.Event()
    call = Call()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ask(rig.corral.asgi, path="/api/chat", body=json.dumps(HI).encode(), call=call))
        while not rig.launcher.specs:  # noqa: ASYNC110  the launcher is reached some steps later, and tells nobody
            await asyncio.sleep(0)
        call.leave()
    assert task.done()
    assert call.status == 499
    rig.launcher.hold.set()
    assert (await rig.http.post("/api/chat", json=HI)).status_code == 200


async def test_a_client_that_leaves_the_queue_is_let_go(rig: Rig) -> None:
    rig.launcher.n_parallel = 1
    gate, first, second = Gate(0), Call(), Call()
    rig.launcher.scripts.append(Script(gate=gate))
    body = json.dumps(HI).encode()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(rig.corral.asgi, path="/api/chat", body=body, call=first))
        await gate.is_reached.wait()
        waiting = tasks.create_task(ask(rig.corral.asgi, path="/api/chat", body=body, call=second))
        for _ in range(20):
            await asyncio.sleep(0)
        assert second.sent == []
        second.leave()
        await waiting
        assert second.status == 499
        first.leave()
    assert [engine.running for engine in rig.launcher.engines] == [0]


async def test_an_upload_that_ends_early_leaves_nothing(empty: Rig) -> None:
    call = Call()
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": b"part", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    digest = "sha256:" + "0" * 64
    await empty.corral.asgi(scope("POST", f"/api/blobs/{digest}"), receive, call.send)
    assert call.status == 499
    assert (await empty.http.head(f"/api/blobs/{digest}")).status_code == 404

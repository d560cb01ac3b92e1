"""Pushing to a registry, over sockets: what is asked and sent, what a client is told, what the registry has afterwards."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from corral.core.errors import BadRequestError, CorralError, ModelCorruptError, ModelNotFoundError, RegistryError, StoreError
from corral.registry import Disk
from corral.service.push import PushService
from corral.service.requests import Status
from corral.store import CONFIG_LAYER, LICENSE_LAYER, MODEL_LAYER, ModelName, Store
from corral.wire.registry import Descriptor, Manifest
from tests.support.fake_registry import digest_of
from tests.support.fake_uploads import FakeUploads, UploadFault, answer, never_read, query_of, take_and_cut
from tests.support.pulls import QUICK, Gate, Puller, lines

WEIGHTS = os.urandom(250_000)  # three parts
TERMS = b"free for all"
CONFIG = b"{}\n"
LIMITS = replace(QUICK, part_bytes=(100_000, 100_000), stall_s=10.0)


class Pusher:
    """A push service on a store of its own."""

    def __init__(self, root: Path, *, disk: Disk | None = None) -> None:
        self.store = Store(root)
        self.service = PushService(self.store, env={}, limits=LIMITS, disk=disk)

    def add(self, name: str, *, parent: str = "") -> bytes:
        """Makes a model in the store; gives its manifest."""
        weights, _ = self.store.put_blob(WEIGHTS, MODEL_LAYER)
        manifest = Manifest(
            config=self.store.put_blob(CONFIG, CONFIG_LAYER)[0],
            layers=(
                Descriptor(media_type=MODEL_LAYER, digest=weights.digest, size=weights.size, parent=parent),
                self.store.put_blob(TERMS, LICENSE_LAYER)[0],
            ),
        )
        parsed = ModelName.parse(name)
        self.store.write_manifest(parsed, manifest)
        return self.store.manifest(parsed).text

    async def push(self, name: str, *, insecure: bool = True) -> list[Status]:
        async with self.service.push(name, insecure=insecure) as statuses:
            return [status async for status in statuses]


@pytest.fixture
async def registry() -> AsyncIterator[FakeUploads]:
    async with FakeUploads() as fake:
        yield fake


@pytest.fixture
async def pusher(tmp_path: Path) -> AsyncIterator[Pusher]:
    it = Pusher(tmp_path / "models")
    yield it
    await it.service.aclose()


def asked(registry: FakeUploads) -> list[tuple[str, str]]:
    return [(seen.method, seen.path) for seen in registry.seen]


async def test_push_asks_as_ollama_does(registry: FakeUploads, pusher: Pusher) -> None:
    manifest = await asyncio.to_thread(pusher.add, registry.name("me/hello:v1"))
    statuses = await pusher.push(registry.name("me/hello:v1"))
    layers = [f"pushing {digest_of(data)[7:19]}" for data in (WEIGHTS, TERMS, CONFIG)]
    assert lines(statuses) == ["retrieving manifest", *layers, "pushing manifest", "success"]
    assert registry.manifests["me/hello:v1"] == manifest
    assert [registry.blobs[digest_of(data)] for data in (WEIGHTS, TERMS, CONFIG)] == [WEIGHTS, TERMS, CONFIG]

    place = "/v2/me/hello/blobs/uploads/"
    assert asked(registry)[:6] == [
        ("HEAD", f"/v2/me/hello/blobs/{digest_of(WEIGHTS)}"),
        ("POST", place),
        *[("PATCH", f"{place}0")] * 3,
        ("PUT", f"{place}0"),
    ]
    assert asked(registry)[-1] == ("PUT", "/v2/me/hello/manifests/v1")
    assert registry.seen[-1].headers["Content-Type"] == "application/vnd.docker.distribution.manifest.v2+json"
    parts = registry.asked("PATCH")[:3]
    assert [seen.headers["Content-Range"] for seen in parts] == ["0-99999", "100000-199999", "200000-249999"]
    assert {seen.headers["X-Redirect-Uploads"] for seen in parts} == {"1"}
    assert {seen.headers["Content-Type"] for seen in parts} == {"application/octet-stream"}
    assert [seen.query for seen in parts] == ["state=0", "state=100000", "state=200000"]
    sums = [hashlib.md5(WEIGHTS[at : at + 100_000]).digest() for at in range(0, 250_000, 100_000)]
    commit = query_of(registry.asked("PUT")[0])
    assert commit == {
        "state": "250000",
        "digest": digest_of(WEIGHTS),
        "etag": f"{hashlib.md5(b''.join(sums)).hexdigest()}-3",
    }


async def test_push_reports_bytes_that_only_grow(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.append(take_and_cut(50_000))
    statuses = [s for s in await pusher.push(registry.name()) if s.digest == digest_of(WEIGHTS)]
    assert [s.completed for s in statuses] == sorted({s.completed for s in statuses})
    assert (statuses[-1].completed, {s.total for s in statuses}) == (len(WEIGHTS), {len(WEIGHTS)})


async def test_push_again_sends_no_blob(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    await pusher.push(registry.name())
    registry.seen.clear()
    statuses = await pusher.push(registry.name())
    assert [seen.method for seen in registry.seen] == ["HEAD"] * 3 + ["PUT"]
    assert all(status.completed == status.total for status in statuses)


async def test_what_was_pushed_is_pulled_back_the_same(registry: FakeUploads, pusher: Pusher, tmp_path: Path) -> None:
    manifest = await asyncio.to_thread(pusher.add, registry.name())
    await pusher.push(registry.name())
    puller = Puller(tmp_path / "other")
    await puller.pull(registry.name())
    assert (await asyncio.to_thread(puller.store.manifest, ModelName.parse(registry.name()))).text == manifest
    await puller.service.aclose()


async def test_a_layer_of_another_repository_is_mounted(registry: FakeUploads, pusher: Pusher) -> None:
    registry.mountable.add("me/base")
    await asyncio.to_thread(pusher.add, registry.name("me/new:v1"), parent=registry.name("me/base:v1").removeprefix("http://"))
    await pusher.push(registry.name("me/new:v1"))
    first, *_ = registry.asked("POST")
    assert query_of(first) == {"mount": digest_of(WEIGHTS), "from": "me/base"}
    assert registry.received_bytes == len(TERMS) + len(CONFIG)


@pytest.mark.parametrize(
    "parent", ["elsewhere.example/me/base:v1", "me/new", "not a name", ""], ids=["host", "ollama", "odd", "none"]
)
async def test_a_layer_of_another_registry_is_sent(registry: FakeUploads, pusher: Pusher, parent: str) -> None:
    await asyncio.to_thread(pusher.add, registry.name("me/new:v1"), parent=parent)
    await pusher.push(registry.name("me/new:v1"))
    assert {seen.query for seen in registry.asked("POST")} == {""}
    assert registry.blobs[digest_of(WEIGHTS)] == WEIGHTS


async def test_a_mount_that_is_refused_becomes_an_upload(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name("me/new:v1"), parent=registry.name("me/base:v1").removeprefix("http://"))
    await pusher.push(registry.name("me/new:v1"))
    assert registry.blobs[digest_of(WEIGHTS)] == WEIGHTS


@pytest.mark.parametrize(
    ("faults", "sent_again"),
    [
        pytest.param([take_and_cut(60_000)], 40_000, id="cut-and-gone-on-with"),
        pytest.param([answer(500), answer(429, Retry_After="0")], 100_000, id="5xx-and-429"),
        pytest.param([answer(404)], 100_000, id="session-lost"),
        pytest.param([answer(416, forgets=True)], 100_000, id="session-elsewhere"),
    ],
)
async def test_push_goes_on_after(registry: FakeUploads, pusher: Pusher, faults: list[UploadFault], sent_again: int) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.extend(faults)
    assert (await pusher.push(registry.name()))[-1].status == "success"
    assert registry.blobs[digest_of(WEIGHTS)] == WEIGHTS
    first_whole = next(s for s in registry.asked("PATCH")[len(faults) :] if s.path.endswith(("/0", "/1")))
    start, end = map(int, first_whole.headers["Content-Range"].split("-"))
    assert end + 1 - start in (sent_again, 100_000)


async def test_push_sends_only_what_the_session_lacks(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.append(take_and_cut(60_000))
    await pusher.push(registry.name())
    assert registry.received_bytes == len(WEIGHTS) - 60_000 + len(TERMS) + len(CONFIG)
    assert "etag" not in query_of(registry.asked("PUT")[0])


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())

    async def done_but_cut(request: web.Request, data: bytearray) -> web.StreamResponse:
        registry.commit(request, bytes(data))
        assert request.transport
        request.transport.close()
        return web.Response()

    registry.commit_faults.append(done_but_cut)
    await pusher.push(registry.name())
    assert registry.received_bytes == len(WEIGHTS) + len(TERMS) + len(CONFIG)


async def test_a_server_that_stops_reading_is_given_up(registry: FakeUploads, tmp_path: Path) -> None:
    pusher, gate = Pusher(tmp_path / "models"), Gate()
    big = os.urandom(20_000_000)  # more than the sockets of both sides hold
    pusher.service = PushService(pusher.store, env={}, limits=replace(LIMITS, stall_s=0.3, part_bytes=(10**9, 10**9)))
    _, config = [
        await asyncio.to_thread(pusher.store.put_blob, data, kind)
        for data, kind in ((big, MODEL_LAYER), (CONFIG, CONFIG_LAYER))
    ]
    layer = Descriptor(media_type=MODEL_LAYER, digest=digest_of(big), size=len(big))
    await asyncio.to_thread(
        pusher.store.write_manifest, ModelName.parse(registry.name()), Manifest(config=config[0], layers=(layer,))
    )
    registry.patch_faults.append(never_read(gate))
    assert (await pusher.push(registry.name()))[-1].status == "success"
    gate.opened.set()
    assert registry.blobs[digest_of(big)] == big
    await pusher.service.aclose()


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        pytest.param([answer(500)] * 100, "pushing [0-9a-f]{12}: 500: Internal Server Error", id="500"),
        pytest.param([answer(403)], "pushing [0-9a-f]{12}: 403: Forbidden", id="403"),
        pytest.param([answer(413)], "pushing [0-9a-f]{12}: 413: ", id="413"),
        pytest.param([answer(404)] * 100, "the registry has lost the upload", id="never-there"),
    ],
)
async def test_push_says_why_it_failed(registry: FakeUploads, pusher: Pusher, faults: list[UploadFault], said: str) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.extend(faults)
    with pytest.raises(RegistryError, match=said):
        await pusher.push(registry.name())
    assert registry.manifests == {}


async def test_parts_go_elsewhere_without_credentials(registry: FakeUploads, pusher: Pusher) -> None:
    registry.token = "for-the-registry-alone"
    await asyncio.to_thread(pusher.add, registry.name())
    async with FakeUploads() as elsewhere:
        registry.parts_at = elsewhere.url.replace("127.0.0.1", "localhost")
        assert (await pusher.push(registry.name()))[-1].status == "success"
        assert [elsewhere.parts[f"0/{at}"] for at in (0, 100_000, 200_000)] == [
            WEIGHTS[at : at + 100_000] for at in (0, 100_000, 200_000)
        ]
        assert not any("Authorization" in seen.headers for seen in elsewhere.seen)
        assert {seen.query for seen in elsewhere.seen} == {"signature=a%2Fb"}
    assert all("Authorization" in seen.headers for seen in registry.asked("PATCH"))
    assert query_of(registry.asked("PUT")[0])["etag"].endswith("-3")


async def test_push_of_an_unknown_model_says_so(pusher: Pusher) -> None:
    async with pusher.service.push("nope") as statuses:
        seen = [(await anext(statuses)).status for _ in range(2)]
        with pytest.raises(ModelNotFoundError, match="model 'nope:latest' not found"):
            await anext(statuses)
    assert seen == ["retrieving manifest", "couldn't retrieve manifest"]


async def test_push_with_a_malformed_name_fails_at_once(pusher: Pusher) -> None:
    with pytest.raises(BadRequestError, match="invalid model name"):
        pusher.service.push("a b")


@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_push_of_an_incomplete_model_names_the_layer(registry: FakeUploads, pusher: Pusher, damage: str) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    path = pusher.store.blob_path(digest_of(TERMS))
    assert path
    path.unlink() if damage == "missing" else path.write_bytes(b"short")
    with pytest.raises(ModelCorruptError, match=f"its layer {digest_of(TERMS)} is {damage}"):
        await pusher.push(registry.name())
    assert registry.seen == []


async def test_a_file_that_shrinks_under_the_push_is_no_registry_error(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    path = pusher.store.blob_path(digest_of(WEIGHTS))
    assert path

    async def shrink(request: web.Request, data: bytearray) -> web.StreamResponse:
        await asyncio.to_thread(os.truncate, path, 1000)
        return web.Response(status=500)

    registry.patch_faults.append(shrink)
    with pytest.raises(StoreError, match="became shorter while it was pushed"):
        await pusher.push(registry.name())


async def test_insecure_push_finds_http_by_itself(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    assert (await pusher.push(registry.name().removeprefix("http://")))[-1].status == "success"


async def test_push_without_insecure_does_not_fall_back_to_http(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    with pytest.raises(RegistryError, match=r'Head "https://.*": http: server gave HTTP response to HTTPS client'):
        await pusher.push(registry.name(), insecure=False)
    assert registry.seen == []


async def test_a_client_that_leaves_stops_the_push(registry: FakeUploads, pusher: Pusher) -> None:
    gate = Gate()
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.append(never_read(gate))
    async with pusher.service.push(registry.name(), insecure=True) as statuses:
        await anext(statuses)
        await gate.reached.wait()
    assert registry.manifests == {}
    assert (await pusher.push(registry.name()))[-1].status == "success"


async def test_two_clients_share_one_push(registry: FakeUploads, pusher: Pusher) -> None:
    await asyncio.to_thread(pusher.add, registry.name())
    async with asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(pusher.push(registry.name())) for _ in range(2)]
    assert [task.result()[-1].status for task in both] == ["success", "success"]
    assert registry.received_bytes == len(WEIGHTS) + len(TERMS) + len(CONFIG)


async def test_closing_the_service_ends_its_clients(registry: FakeUploads, pusher: Pusher) -> None:
    gate = Gate()
    await asyncio.to_thread(pusher.add, registry.name())
    registry.patch_faults.append(never_read(gate))
    async with pusher.service.push(registry.name(), insecure=True) as statuses:
        await gate.reached.wait()
        await pusher.service.aclose()
        with pytest.raises(CorralError, match="shutting down"):
            lines([status async for status in statuses])


def test_a_manifest_is_sent_as_it_lies_in_the_store(tmp_path: Path) -> None:
    """Whatever order and spaces another program wrote it with: the digest is of the bytes."""
    pusher = Pusher(tmp_path / "models")
    text = json.dumps(json.loads(pusher.add("me/odd")), indent=1).encode()
    pusher.store.write_manifest(ModelName.parse("me/odd"), text)
    assert pusher.store.manifest(ModelName.parse("me/odd")).text == text

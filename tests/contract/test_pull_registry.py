"""Pulling from a registry, over sockets: what is asked, what a client is told, what is in the store afterwards."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from corral.core.errors import BadRequestError, CorralError, RegistryError, StoreError
from corral.registry import Disk, Limits
from corral.store import ModelName
from tests.support.fake_registry import FakeRegistry, Fault, cut_after, digest_of, send, stall_after, status
from tests.support.pulls import QUICK, Gate, Puller, held, lines

WEIGHTS = bytes(range(256)) * 400  # 102,400 bytes: seven chunks
TERMS = b"free for all"


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    it = Puller(tmp_path / "models")
    yield it
    await it.service.aclose()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize("has_ranges", [True, False], ids=["ranges", "no-ranges"])
async def test_pull_makes_the_model_byte_for_byte(registry: FakeRegistry, puller: Puller, has_ranges: bool) -> None:
    registry.has_ranges = has_ranges
    manifest = registry.add(WEIGHTS, TERMS, b"")
    statuses = await puller.pull(registry.name())

    layers = [f"pulling {digest_of(data)[7:19]}" for data in (WEIGHTS, TERMS, b"", b"{}\n")]
    assert lines(statuses) == ["pulling manifest", *layers, "verifying sha256 digest", "writing manifest", "success"]
    assert [puller.blob(data) for data in (WEIGHTS, TERMS, b"", b"{}\n")] == [WEIGHTS, TERMS, b"", b"{}\n"]
    written = puller.store.root.joinpath("manifests", f"127.0.0.1:{registry.port}", "library", "tiny", "latest")
    assert written.read_bytes() == manifest
    assert puller.is_clean()


async def test_pull_asks_with_docker_types_and_our_name(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    await puller.pull(registry.name())
    first = registry.seen[0]
    assert first.path == "/v2/library/tiny/manifests/latest"
    assert first.headers["Accept"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert first.headers["User-Agent"].startswith("corral/")
    assert {seen.headers["Range"] for seen in registry.blob_requests()} >= {"bytes=0-0", "bytes=0-14999", "bytes=90000-102399"}


async def test_pull_reports_bytes_that_only_grow(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    registry.blob_faults.extend([cut_after(1)] * 3)
    statuses = [s for s in await puller.pull(registry.name()) if s.digest == digest_of(WEIGHTS)]
    assert [s.completed for s in statuses] == sorted({s.completed for s in statuses})
    assert (statuses[-1].completed, {s.total for s in statuses}) == (len(WEIGHTS), {len(WEIGHTS)})


async def test_pull_again_fetches_no_blob(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS, TERMS)
    await puller.pull(registry.name())
    registry.seen.clear()
    statuses = await puller.pull(registry.name())
    assert registry.blob_requests() == []
    assert lines(statuses)[-2:] == ["writing manifest", "success"]
    assert all(s.completed == s.total for s in statuses)


async def test_pull_of_a_newer_model_drops_the_old_layers(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS, TERMS)
    await puller.pull(registry.name())
    registry.add(WEIGHTS[::-1], TERMS)
    assert lines(await puller.pull(registry.name()))[-2:] == ["removing unused layers", "success"]
    assert (puller.blob(WEIGHTS), puller.blob(TERMS)) == (None, TERMS)


async def test_pull_replaces_a_blob_of_the_wrong_size(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    await puller.pull(registry.name())
    path = puller.store.blob_path(digest_of(WEIGHTS))
    assert path
    path.write_bytes(b"cut")
    await puller.pull(registry.name())
    assert puller.blob(WEIGHTS) == WEIGHTS


@pytest.mark.parametrize(
    ("faults", "limits"),
    [
        pytest.param([cut_after(0), cut_after(5000)], QUICK, id="cut"),
        pytest.param([status(500), status(503), status(429, Retry_After="0")], QUICK, id="5xx-and-429"),
        pytest.param([stall_after(7000, asyncio.Event().wait)], QUICK, id="stalled"),
        pytest.param([cut_after(20_000)] * 5, Limits(stall_s=0.2, backoff_s=0, blob_tries=2), id="one-chunk-many-cuts"),
    ],
)
async def test_pull_goes_on_after(registry: FakeRegistry, tmp_path: Path, faults: list[Fault], limits: Limits) -> None:
    puller = Puller(tmp_path / "models", limits=limits)
    registry.add(WEIGHTS)
    registry.blob_faults.extend(faults)
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert puller.blob(WEIGHTS) == WEIGHTS
    await puller.service.aclose()


@pytest.mark.parametrize("has_ranges", [True, False], ids=["ranges", "no-ranges"])
async def test_pull_does_not_fetch_again_what_it_has(registry: FakeRegistry, tmp_path: Path, has_ranges: bool) -> None:
    registry.has_ranges = has_ranges
    registry.add(WEIGHTS)
    registry.blob_faults.append(cut_after(30_000))
    puller = Puller(tmp_path / "models", limits=Limits(backoff_s=0))
    await puller.pull(registry.name())
    wanted = [seen.headers["Range"] for seen in registry.blob_requests() if digest_of(WEIGHTS) in seen.path]
    assert wanted == ["bytes=0-102399", "bytes=30000-102399"]
    assert puller.blob(WEIGHTS) == WEIGHTS
    await puller.service.aclose()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(status(500, "broken"), "pulling [0-9a-f]{12}: 500: broken", id="500"),
        pytest.param(status(404), "pulling [0-9a-f]{12}: file does not exist", id="404"),
        pytest.param(send(WEIGHTS[::-1]), "digest mismatch for sha256:", id="wrong-bytes"),
        pytest.param(cut_after(0), "unexpected EOF", id="cut"),
        pytest.param(send(b"short"), "the manifest gives it 102400 bytes, and the registry has 5", id="short"),
    ],
)
async def test_failed_pull_leaves_nothing_half_made(registry: FakeRegistry, puller: Puller, fault: Fault, said: str) -> None:
    registry.add(WEIGHTS, TERMS)
    registry.blob_faults.extend([fault] * 100)
    with pytest.raises(RegistryError, match=said):
        await puller.pull(registry.name())
    assert puller.is_clean()
    assert puller.blob(WEIGHTS) is None
    assert await asyncio.to_thread(puller.store.list) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(status(500, "broken"), "pull model manifest: 500: broken", id="500"),
        pytest.param(status(412, "too old"), "pull model manifest: 412: too old", id="412"),
        pytest.param(send(b"<html>"), "pull model manifest: the registry's answer is no manifest", id="html"),
        pytest.param(send(b"x" * 5_000_000), "the manifest is larger than", id="huge"),
        pytest.param(status(302, Location="ftp://elsewhere/x"), 'unsupported protocol scheme "ftp"', id="ftp"),
        pytest.param(status(302, Location="/v2/library/tiny/manifests/latest"), "stopped after 10 redirects", id="circle"),
    ],
)
async def test_pull_says_what_is_wrong_with_a_manifest(registry: FakeRegistry, puller: Puller, fault: Fault, said: str) -> None:
    registry.add(WEIGHTS)
    registry.manifest_faults.extend([fault] * 20)
    with pytest.raises(RegistryError, match=said):
        await puller.pull(registry.name())


async def test_pull_of_an_unknown_model_says_so(registry: FakeRegistry, puller: Puller) -> None:
    with pytest.raises(RegistryError) as caught:
        await puller.pull(registry.name("library/nope:latest"))
    assert str(caught.value) == "pull model manifest: file does not exist"
    assert caught.value.status == 500


async def test_pull_manifest_survives_a_busy_registry(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    registry.manifest_faults.extend([status(503), status(429, Retry_After="0")])
    assert (await puller.pull(registry.name()))[-1].status == "success"


async def test_pull_with_a_malformed_name_fails_at_once(puller: Puller) -> None:
    with pytest.raises(BadRequestError, match="invalid model name"):
        puller.service.pull("a b")


@pytest.mark.parametrize("insecure", [True, False], ids=["http", "https-without-insecure"])
async def test_pull_from_a_port_nobody_listens_on(puller: Puller, unused_port: int, insecure: bool) -> None:
    with pytest.raises(RegistryError) as caught:
        await puller.pull(f"http://127.0.0.1:{unused_port}/library/x", insecure=insecure)
    where = f"127.0.0.1:{unused_port}"
    url = f"{'http' if insecure else 'https'}://{where}/v2/library/x/manifests/latest"
    assert str(caught.value) == f'pull model manifest: Get "{url}": dial tcp {where}: connect: connection refused'


async def test_pull_from_an_impossible_port_says_so(puller: Puller) -> None:
    with pytest.raises(RegistryError, match="Port out of range"):
        await puller.pull("http://127.0.0.1:99999/library/x")


async def test_pull_without_insecure_does_not_fall_back_to_http(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    with pytest.raises(RegistryError, match="server gave HTTP response to HTTPS client"):
        await puller.pull(registry.name(), insecure=False)
    assert registry.seen == []


async def test_insecure_pull_finds_http_by_itself(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    assert (await puller.pull(registry.name().removeprefix("http://")))[-1].status == "success"


async def test_blob_redirect_keeps_signature_and_drops_credentials(registry: FakeRegistry, puller: Puller) -> None:
    registry.token = "for-the-registry-alone"
    registry.add(WEIGHTS)
    async with FakeRegistry(blobs=registry.blobs) as elsewhere:
        registry.blobs_at = elsewhere.url.replace("127.0.0.1", "localhost")
        assert (await puller.pull(registry.name()))[-1].status == "success"
        assert all("Authorization" in seen.headers for seen in registry.blob_requests())
        assert elsewhere.seen
        assert not any("Authorization" in seen.headers for seen in elsewhere.seen)
        assert {seen.query for seen in elsewhere.seen} == {"signature=a%2Fb%3D"}


async def test_chunks_go_straight_to_where_the_first_answer_led(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    async with FakeRegistry(blobs=registry.blobs) as elsewhere:
        registry.blobs_at = elsewhere.url
        await puller.pull(registry.name())
        asked = [seen for seen in registry.blob_requests() if digest_of(WEIGHTS) in seen.path]
        assert [seen.headers["Range"] for seen in asked] == ["bytes=0-0"]


async def test_an_expired_place_is_asked_for_anew(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    async with FakeRegistry(blobs=registry.blobs) as first, FakeRegistry(blobs=registry.blobs) as second:
        registry.blobs_at = first.url

        async def located(request: web.Request, data: bytes) -> web.StreamResponse:
            registry.blobs_at = second.url
            return first.answer(request, data)

        first.blob_faults.extend([located, *[status(403, "expired")] * 100])
        assert (await puller.pull(registry.name()))[-1].status == "success"


async def test_errors_show_no_signature(registry: FakeRegistry, puller: Puller) -> None:
    registry.add(WEIGHTS)
    async with FakeRegistry(blobs=registry.blobs) as elsewhere:
        registry.blobs_at = elsewhere.url
        elsewhere.blob_faults.extend([cut_after(0)] * 100)
        with pytest.raises(RegistryError) as caught:
            await puller.pull(registry.name())
    assert "unexpected EOF" in str(caught.value)
    assert "signature" not in str(caught.value)


async def test_a_sign_in_that_is_refused_is_explained(registry: FakeRegistry, puller: Puller) -> None:
    registry.manifest_faults.extend([status(401, "denied", WWW_Authenticate='Basic realm="box"')])
    with pytest.raises(
        RegistryError,
        match=r"pull model manifest: unauthorized: access denied \(401: denied\); 127\.0\.0\.1:\d+ asks for a sign-in",
    ):
        await puller.pull(registry.name())


PATIENT = Limits(backoff_s=0.0, stall_s=10.0)


async def test_two_clients_share_one_download(registry: FakeRegistry, tmp_path: Path) -> None:
    puller, gate = Puller(tmp_path / "models", limits=PATIENT), Gate()
    registry.add(WEIGHTS)
    registry.blob_faults.append(held(gate))
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(puller.pull(registry.name()))
        await gate.reached.wait()
        two = tasks.create_task(puller.pull(registry.name().replace("tiny", "TINY")))
        await asyncio.sleep(0)
        gate.opened.set()
    assert lines(one.result()) == lines(two.result())
    assert len([seen for seen in registry.blob_requests() if digest_of(WEIGHTS) in seen.path]) == 1
    await puller.service.aclose()


async def test_a_client_that_leaves_does_not_stop_the_other(registry: FakeRegistry, tmp_path: Path) -> None:
    puller, gate = Puller(tmp_path / "models", limits=PATIENT), Gate()
    registry.add(WEIGHTS)
    registry.blob_faults.append(held(gate))
    async with puller.service.pull(registry.name(), insecure=True) as staying:
        async with puller.service.pull(registry.name(), insecure=True) as leaving:
            await anext(leaving)
            await gate.reached.wait()
        gate.opened.set()
        assert [status.status async for status in staying][-1] == "success"
    assert puller.blob(WEIGHTS) == WEIGHTS
    await puller.service.aclose()


async def test_when_the_last_client_leaves_nothing_half_made_is_taken_for_a_model(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    puller, gate = Puller(tmp_path / "models", limits=PATIENT), Gate()
    registry.add(WEIGHTS, TERMS)
    registry.blob_faults.append(stall_after(50_000, gate))
    async with puller.service.pull(registry.name(), insecure=True) as statuses:
        await anext(statuses)
        await gate.reached.wait()
    assert puller.is_clean()
    assert await asyncio.to_thread(puller.store.list) == []
    assert (await puller.pull(registry.name()))[-1].status == "success"
    await puller.service.aclose()


async def test_closing_the_service_ends_its_clients(registry: FakeRegistry, tmp_path: Path) -> None:
    puller, gate = Puller(tmp_path / "models", limits=PATIENT), Gate()
    registry.add(WEIGHTS)
    registry.blob_faults.append(held(gate))
    async with puller.service.pull(registry.name(), insecure=True) as statuses:
        await gate.reached.wait()
        await puller.service.aclose()
        with pytest.raises(CorralError, match="shutting down"):
            lines([status async for status in statuses])
    assert puller.is_clean()


async def test_pull_needs_the_space_before_it_begins(registry: FakeRegistry, tmp_path: Path) -> None:
    puller = Puller(tmp_path / "models", disk=Disk(free_bytes=lambda _: 1_000_000))
    registry.add(WEIGHTS)
    with pytest.raises(StoreError, match=r"not enough space on the disk of .*: 1 MB are needed, 1 MB are free"):
        await puller.pull(registry.name())
    assert registry.blob_requests() == []
    await puller.service.aclose()


async def test_a_disk_that_fills_up_loses_nothing(registry: FakeRegistry, tmp_path: Path) -> None:
    room = 40_000

    def write_at(fd: int, data: bytes, offset: int) -> None:
        nonlocal room
        if len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= len(data)
        os.pwrite(fd, data, offset)

    puller = Puller(tmp_path / "models", disk=Disk(write_at=write_at))
    registry.add(TERMS, path="library/small")
    await puller.pull(registry.name("library/small"))
    registry.add(WEIGHTS)
    with pytest.raises(StoreError, match="No space left on device; remove models"):
        await puller.pull(registry.name())
    assert puller.blob(WEIGHTS) is None
    assert puller.blob(TERMS) == TERMS
    await asyncio.to_thread(puller.store.manifest, ModelName.parse(registry.name("library/small")))
    room = 1_000_000
    assert (await puller.pull(registry.name()))[-1].status == "success"
    await puller.service.aclose()

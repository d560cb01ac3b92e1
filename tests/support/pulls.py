"""A pull service on a store of its own, in a hurry, and answers that wait until a test lets them go."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from corral.registry import Disk, Limits
from corral.service.pull import PullService
from corral.service.requests import Status
from corral.store import Store
from tests.support.fake_registry import Fault, digest_of

QUICK = Limits(
    connect_s=2.0,
    stall_s=0.2,
    slow_bytes=0,
    backoff_s=0.0,
    chunk_bytes=15_000,
    write_bytes=1000,
    connections=3,
    look_again_s=0.01,
)


class Puller:
    def __init__(
        self,
        root: Path,
        *,
        limits: Limits = QUICK,
        disk: Disk | None = None,
        env: Mapping[str, str] | None = None,
        mirrors: Mapping[str, str] | None = None,
    ) -> None:
        self.store = Store(root)
        self.service = PullService(self.store, env=env or {}, limits=limits, disk=disk, mirrors=mirrors)

    async def pull(self, name: str, *, insecure: bool = True) -> list[Status]:
        async with self.service.pull(name, insecure=insecure) as statuses:
            return [status async for status in statuses]

    def blob(self, data: bytes) -> bytes | None:
        path = self.store.blob_path(digest_of(data))
        return path.read_bytes() if path else None

    def partial(self, data: bytes) -> Path:
        return self.store.partial_path(digest_of(data))

    def is_clean(self) -> bool:
        """Whether nothing is in the store but whole blobs, manifests and locks."""
        files = [path for path in self.store.root.rglob("*") if path.is_file() and "manifests" not in path.parts]
        return all(path.name in (".lock", digest_of(path.read_bytes()).replace(":", "-")) for path in files)


def lines(statuses: list[Status]) -> list[str]:
    """The texts, each once."""
    return list(dict.fromkeys(status.status for status in statuses))


class Gate:
    """Holds an answer back until a test lets it go; says when somebody waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


def held(gate: Gate) -> Fault:
    """Answers as a good registry does, once the gate is open."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        await gate()
        return web.Response(body=data)

    return fault

"""The pushing half of the registry on loopback: upload sessions that can be cut, lost, mounted, or sent elsewhere."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.fake_registry import FakeRegistry, Seen, digest_of

UploadFault = Callable[[web.Request, bytearray], Awaitable[web.StreamResponse]]


@dataclass
class FakeUploads(FakeRegistry):
    """A registry that can be pushed to. Faults are for PATCHes and for the PUT that ends a session, in their order."""

    patch_faults: deque[UploadFault] = field(default_factory=deque)
    commit_faults: deque[UploadFault] = field(default_factory=deque)
    mountable: set[str] = field(default_factory=set)  # repositories that blobs can be mounted from
    parts_at: str = ""  # where parts are sent, for example "http://localhost:1234"
    parts: dict[str, bytes] = field(default_factory=dict)  # what was put here, as such a place
    sessions: dict[str, bytearray] = field(default_factory=dict)
    received_bytes: int = 0
    _numbers: "count[int]" = field(default_factory=count)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v2/{repository:.+}/blobs/uploads/", self._begin)
        router.add_get("/v2/{repository:.+}/blobs/uploads/{id}", self._stands)
        router.add_patch("/v2/{repository:.+}/blobs/uploads/{id}", self._patch)
        router.add_put("/v2/{repository:.+}/blobs/uploads/{id}", self._commit)
        router.add_put("/v2/{repository:.+}/manifests/{tag}", self._put_manifest)
        router.add_put("/parts/{id}/{start}", self._put_part)
        super().add_routes(router)

    def asked(self, method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method]

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        if request.query.get("from") in self.mountable:
            return web.Response(status=201)
        session = str(next(self._numbers))
        self.sessions[session] = bytearray()
        return self._standing(request, session)

    async def _stands(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        session = request.match_info["id"]
        return self._standing(request, session, 204) if session in self.sessions else web.Response(status=404)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        session = request.match_info["id"]
        data = self.sessions.get(session)
        if data is None:
            return web.Response(status=404)
        if self.patch_faults:
            return await self.patch_faults.popleft()(request, data)
        start, end = map(int, request.headers["Content-Range"].split("-"))
        if self.parts_at:
            where = {
                "Location": f"{self.parts_at}/parts/{session}/{start}?signature=a%2Fb",
                "Docker-Upload-Location": request.path,
            }
            return web.Response(status=307, headers=where)
        if start != len(data):
            return web.Response(status=416)
        body = await request.read()
        assert len(body) == end + 1 - start
        self.received_bytes += len(body)
        data += body
        return self._standing(request, session)

    async def _put_part(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        self.parts[f"{request.match_info['id']}/{request.match_info['start']}"] = await request.read()
        return web.Response()

    async def _commit(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        session = request.match_info["id"]
        data = self.sessions.get(session)
        if data is None:
            return web.Response(status=404)
        if self.commit_faults:
            return await self.commit_faults.popleft()(request, data)
        return self.commit(request, bytes(data))

    def commit(self, request: web.Request, data: bytes) -> web.Response:
        """Makes a blob of what came, if it is the right one."""
        if digest_of(data) != request.query["digest"] and not self.parts_at:
            return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
        self.blobs[request.query["digest"]] = data
        return web.Response(status=201)

    async def _put_manifest(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.note(request):
            return refusal
        self.manifests[f"{request.match_info['repository']}:{request.match_info['tag']}"] = await request.read()
        return web.Response(status=201)

    def _standing(self, request: web.Request, session: str, status: int = 202) -> web.Response:
        path = f"/v2/{request.match_info['repository']}/blobs/uploads/{session}?state={len(self.sessions[session])}"
        stands = f"0-{max(0, len(self.sessions[session]) - 1)}"
        return web.Response(status=status, headers={"Location": path, "Range": stands})


def take_and_cut(size_bytes: int) -> UploadFault:
    """Takes so much of a part and closes the connection."""

    async def fault(request: web.Request, data: bytearray) -> web.StreamResponse:
        data += await request.content.readexactly(size_bytes)
        assert request.transport
        request.transport.close()
        return web.Response()

    return fault


def answer(code: int, *, forgets: bool = False, **headers: str) -> UploadFault:
    """Answers with a status, without having read the part; `forgets`: the session is gone, too."""

    async def fault(request: web.Request, data: bytearray) -> web.StreamResponse:
        if forgets:
            data.clear()
        return web.Response(status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def never_read(gate: Callable[[], Awaitable[object]]) -> UploadFault:
    """Takes nothing and says nothing until `gate()` ends."""

    async def fault(_request: web.Request, _data: bytearray) -> web.StreamResponse:
        await gate()
        return web.Response(status=500)

    return fault


def query_of(seen: Seen) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(seen.query).items()}

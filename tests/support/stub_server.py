"""A small HTTP server that gives set answers and remembers what it was asked: what a command-line client is tested against."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: an object, or lines that go out one by one, chunked. `is_cut`: the connection breaks after the lines."""

    body: Json | None = None
    lines: Sequence[Json] = ()
    status: int = 200
    is_cut: bool = False
    hold: threading.Event | None = None  # waited for after the lines, before the end


@dataclass(slots=True)
class Stub:
    """What to answer, by method and path; a list is used up from its front, its last reply stays."""

    url: str
    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, str, Json | None]] = field(default_factory=list)

    def answer(self, method: str, path: str, *replies: Reply) -> None:
        self.replies[method, path] = list(replies)

    def take(self, method: str, path: str) -> Reply:
        left = self.replies.get((method, path))
        if not left:
            return Reply({"error": f"the stub knows no {method} {path}"}, status=501)
        return left.pop(0) if len(left) > 1 else left[0]

    def bodies(self, path: str) -> list[Json | None]:
        return [body for _, asked, body in self.asked if asked == path]


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.asked.append((self.command, self.path, json.loads(data) if data else None))
            reply = stub.take(self.command, self.path)
            self.close_connection = True
            self.send_response(reply.status)
            if reply.lines or reply.is_cut:
                self._send_lines(reply)
                return
            out = json.dumps(reply.body).encode() if reply.body is not None else b""
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def _send_lines(self, reply: Reply) -> None:
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in reply.lines:
                data = json.dumps(line).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            if reply.hold:
                reply.hold.wait(10)
            if not reply.is_cut:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = do_HEAD = _reply  # noqa: N815  the names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's signature
            pass

    return Handler


@contextmanager
def stub_server() -> Iterator[Stub]:
    """A stub on a free port of loopback until the block ends."""
    stub = Stub("")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub)) as server:
        server.daemon_threads = True
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()

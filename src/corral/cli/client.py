"""Our API over http.client: one request a connection, answers as JSON or as a stream of NDJSON lines.

No third library: `corral ls` must be quick. Leaving a stream's block closes the connection, which stops the server's work.
"""

import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias

from corral import __version__
from corral.core.errors import CorralError
from corral.core.settings import Address, parse_host

Json: TypeAlias = dict[str, Any]
CONNECT_TIMEOUT_S: Final = 10.0
_LOOPBACK: Final = re.compile(r"127(\.[0-9]{1,3}){3}")
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  listened at, but not an address to reach


class UnreachableError(CorralError):
    """No server answers."""

    code = "unreachable"


class ServerError(CorralError):
    """The server refused or broke off. `status` is the answer's, 200 for an error in mid-stream.

    `model` is the one that was asked for in vain, where the text does not name it.
    """

    code = "server_error"

    def __init__(self, status: int, text: str, *, model: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.model = model


def server_address(env: Mapping[str, str] | None = None) -> Address:
    """Where CORRAL_HOST or OLLAMA_HOST says the server is; an address that means every interface is reached on loopback."""
    env = os.environ if env is None else env
    address = parse_host(env.get("CORRAL_HOST", "").strip() or env.get("OLLAMA_HOST", ""))
    return replace(address, host=_EVERYWHERE.get(address.host, address.host))


class Client:
    """Talks to one server. Raises UnreachableError and ServerError, nothing of http.client's."""

    def __init__(self, address: Address | None = None) -> None:
        self.address = server_address() if address is None else address

    @property
    def is_here(self) -> bool:
        """Whether the server, if there is one, runs on this machine."""
        host = self.address.host.lower()
        return host in ("localhost", "::1") or _LOOPBACK.fullmatch(host) is not None

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """The answer's JSON object; an empty answer is {}. Raises ServerError with the server's text for a refusal."""
        with self._response(method, path, body) as response, self._translated():
            data = response.read()
        return _object(data) if data.strip() else {}

    @contextmanager
    def stream(self, path: str, body: Json) -> Iterator[Iterator[Json]]:
        """The lines of a streamed answer, each as it comes. Raises ServerError for an error line, too."""
        with self._response("POST", path, body, is_stream=True) as response:
            yield self._lines(response)

    def upload(self, path: str, pieces: Iterable[bytes], size_bytes: int, headers: Mapping[str, str] | None = None) -> None:
        """Posts so many bytes. Raises ServerError for a refusal, which may come before all of them are sent."""
        sent = {**_encoded(None)[1], "Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        with closing(self._connect()) as connection, self._translated():
            with suppress(BrokenPipeError, ConnectionResetError):  # then the answer says why
                connection.request("POST", self.address.path + path, pieces, {**sent, **(headers or {})})
            response = connection.getresponse()
            data = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise _refusal(response, data, is_stream=False)

    @contextmanager
    def _response(
        self, method: str, path: str, body: Json | None, *, is_stream: bool = False
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(self._connect()) as connection:
            with self._translated():
                connection.request(method, self.address.path + path, *_encoded(body))
                response = connection.getresponse()
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise _refusal(response, response.read(), is_stream=is_stream)
            yield response

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[Json]:
        item: Json = {}
        while line := self._line(response):
            item = _object(line)
            if error := item.get("error"):
                raise ServerError(response.status, str(error))
            yield item
        if not (item.get("done") or item.get("status") == "success"):  # http.client takes a cut stream for a whole one
            raise self._broken_off("connection closed")

    def _line(self, response: http.client.HTTPResponse) -> bytes:
        with self._translated():
            return response.readline()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The network's errors in our words; only around what reads and writes the connection."""
        try:
            yield
        except (OSError, http.client.HTTPException) as exc:
            raise self._broken_off(_reason(exc)) from exc

    def _broken_off(self, reason: str) -> ServerError:
        return ServerError(0, f"the server at {self.address.url} broke off its answer ({reason})")

    def _connect(self) -> http.client.HTTPConnection:
        address = self.address
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.host, address.port, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except ssl.SSLError as exc:
            raise UnreachableError(
                f"the server at {address.url} cannot be trusted or does not speak https ({_reason(exc)})"
            ) from exc
        except OSError as exc:
            raise UnreachableError(
                f"could not connect to a running corral or ollama server at {address.url} ({_reason(exc)}); "
                "start one with 'corral serve', or name another in OLLAMA_HOST"
            ) from exc
        connection.sock.settimeout(None)  # a model may load for minutes
        return connection


def _encoded(body: Json | None) -> tuple[bytes | None, dict[str, str]]:
    headers = {"User-Agent": f"corral/{__version__}", "Accept": "application/json, application/x-ndjson"}
    if body is None:
        return None, headers
    return json.dumps(body).encode(), headers | {"Content-Type": "application/json"}


def _refusal(response: http.client.HTTPResponse, data: bytes, *, is_stream: bool) -> ServerError:
    """Ollama's CLI puts the status before the text where it expected a stream, and only there."""
    status = f"{response.status} {response.reason}"
    try:
        text = str(_object(data).get("error", "")).strip()
    except ServerError:
        text = data.decode(errors="replace").strip()
        if "\n" in text or text.startswith("<"):  # somebody else's page
            text = f"{status}: what answers there is neither corral nor ollama; OLLAMA_HOST names another server"
    if not text:
        return ServerError(response.status, status)
    return ServerError(response.status, f"{status}: {text}" if is_stream else text)


def _object(data: bytes) -> Json:
    try:
        value = json.loads(data)
    except ValueError as exc:
        raise ServerError(0, f"the server's answer is no JSON: {data[:80]!r}") from exc
    if not isinstance(value, dict):
        raise ServerError(0, f"the server's answer is no JSON object: {data[:80]!r}")
    return value


def _reason(exc: Exception) -> str:
    match exc:
        case TimeoutError():
            return "timed out"
        case socket.gaierror():
            return "unknown host"
        case OSError(strerror=str(text)):
            return text.lower()
        case http.client.IncompleteRead():
            return "connection closed"
        case _:
            return str(exc) or type(exc).__name__

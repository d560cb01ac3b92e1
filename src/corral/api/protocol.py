"""uvicorn's HTTP protocol with a bound on the head of a request: a header that never ends takes no memory without end."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_LIMIT_BYTES: Final = 1 << 20  # Go's default, as Ollama has it. Source: go1.26 net/http, DefaultMaxHeaderBytes
_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 35\r\n\r\n"
    b"431 Request Header Fields Too Large"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    _head_bytes = 0
    _is_in_head = False

    def on_message_begin(self) -> None:
        self._head_bytes, self._is_in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_LIMIT_BYTES:
            self.transport.write(_REFUSAL)
            self.transport.close()

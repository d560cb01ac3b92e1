"""What tells one API from another at the edge: how it words a refusal, what its streams look like, what its types are called.

Each API has a folder here with its own Dialect; routes, decoding, the exchange and the OpenAPI document are given it and
know no API by name. A path or a method that is not served is answered alike by all of them, as Ollama does: see `routes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    name: str
    package: str  # of Ollama's Go types for it: texts about a value of a wrong type name it
    no_body: str  # what is said where a body is missing
    stream_type: bytes  # the content type of a streamed answer
    error: type[msgspec.Struct]  # the shape of `body`
    body: Callable[[Exception], bytes]  # of the answer that an error is
    frame: Callable[[Exception], bytes]  # the last one of a stream that has begun
    error_type: bytes  # the content type of a refusal, once the request has been understood; before that all have the same
    headers: Callable[[], Sequence[tuple[bytes, bytes]]] = tuple  # that every answer has

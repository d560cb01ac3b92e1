"""Who asks, and how urgent it is: what the scheduler shares places by. No dialect; each says which of its fields name a client.

A client is known by its address; those from one address by their X-Client-Id headers or else their API keys; and those with one
of these by what they call themselves in their requests. So who sends the same usual key from two machines are two clients. A
name is for nobody to read: it is a hash, with a key that is new in every process, and neither logged nor kept.
"""

import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from corral.api.errors import FieldError

_HEADERS: Final = (b"x-client-id", b"authorization", b"x-api-key")  # the first one that is there names the client
_SECRET: Final = secrets.token_bytes(16)
_MOST: Final = 2**31  # of a priority, either way


def client_of(address: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client that sent these headers, whose names are in lower case, from there."""
    found = {name: value for name, value in headers if name in _HEADERS and value}
    return next((_hashed(address, found[name]) for name in _HEADERS if name in found), address)


def named(client: str, *names: str | None) -> str:
    """The client, where its request names it; the first name that is there counts."""
    return next((_hashed(client, name.encode("utf-8", "replace")) for name in names if name), client)


def priority_of(given: int | None) -> int:
    """Lower goes first; the usual one is 0. Raises FieldError."""
    if given is not None and not -_MOST <= given < _MOST:
        raise FieldError("priority", f"priority is {given}; it must be a number of 32 bits, 0 where it is absent")
    return given or 0


def _hashed(before: str, name: bytes) -> str:
    return blake2b(before.encode() + b"\0" + name, digest_size=12, key=_SECRET).hexdigest()

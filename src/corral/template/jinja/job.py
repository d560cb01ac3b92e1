"""What goes to a rendering process and what comes back: JSON behind its length. Known on both sides, and small to import."""

from typing import IO, Any, Final, Literal

import msgspec

HEAD_BYTES: Final = 4
MAX_REPLY_BYTES: Final = 256 << 20  # a longer one is not from our code


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One rendering. `messages` and `tools` are spelled as in OpenAI's chat API; `names` are the other variables."""

    source: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    names: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The text, or what the template or its author's mistakes have to say."""

    text: str = ""
    error: str = ""
    kind: Literal["done", "refused", "memory"] = "done"


_encode: Final = msgspec.json.Encoder().encode
decode_job: Final = msgspec.json.Decoder(Job).decode
decode_reply: Final = msgspec.json.Decoder(Reply).decode


def packed(value: Job | Reply) -> bytes:
    body = _encode(value)
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def read_body(stream: IO[bytes]) -> bytes:
    """The next body, for one who can wait for all of it; b"" at the end of the stream."""
    head = stream.read(HEAD_BYTES)
    return stream.read(int.from_bytes(head, "big")) if len(head) == HEAD_BYTES else b""

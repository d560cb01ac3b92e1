"""What server and worker say to each other: a little-endian u32 length, then that many bytes of msgpack.

One StepFrame carries what all sequences gained in one engine step. Jobs are numbered by the server; no number is used twice.
"""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from corral.core.types import Begun, EngineInfo, Finish, Job, LoadSpec, TokenLogprob, Vectors

_LENGTH: Final = struct.Struct("<I")


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all frames."""


# To the worker


class Load(Frame, frozen=True):
    spec: LoadSpec


class Attach(Frame, frozen=True):
    """The next piece of a medium of a job that is about to be submitted, which has none itself then.

    So images of any size cross in frames of bounded size, and hold up neither side.
    """

    job_id: int
    number: int  # of the medium, from 0 on
    data: bytes


class Submit(Frame, frozen=True):
    job_id: int
    job: Job


class Cancel(Frame, frozen=True):
    job_id: int


class Embed(Frame, frozen=True):
    """More texts of an embedding job, the first ones or the next; so a job of any size crosses in frames of bounded size."""

    job_id: int
    texts: list[str]
    num_ctx: int
    truncate: bool
    query: str | None = None


class Tokenize(Frame, frozen=True):
    call_id: int
    text: str
    add_special: bool
    parse_special: bool = True


class Detokenize(Frame, frozen=True):
    """What tokens stand for: all together, or each by itself."""

    call_id: int
    tokens: list[int]
    is_apart: bool


class Limit(Frame, frozen=True):
    """From now on the worker's memory grows to no more than so many bytes in all; what it has taken it keeps."""

    limit_bytes: int


# From the worker


class Hello(Frame, frozen=True):
    """The worker is up: native code is loaded, a model may come."""

    devices: tuple[str, ...]
    gpu_total_bytes: int  # the memory of all GPUs; 0 without one


class Progress(Frame, frozen=True):
    share: float  # 0.0 to 1.0 of the weights are read


class Loaded(Frame, frozen=True):
    info: EngineInfo


class LoadFailed(Frame, frozen=True):
    reason: str


class Gain(msgspec.Struct, frozen=True, array_like=True):
    """What one job gained in a step; the first one of a job has its beginning, the last one its finish."""

    job_id: int
    text: str
    finish: Finish | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    begun: Begun | None = None


class StepFrame(Frame, frozen=True):
    gains: list[Gain]


class Taken(Frame, frozen=True):
    """The job has reached the worker and will be answered; what comes to pass from now on may be its own doing."""

    job_id: int


class Overflow(Frame, frozen=True):
    """The job's prompt does not fit."""

    job_id: int
    prompt_tokens: int
    num_ctx: int
    is_least: bool = False  # it has so many tokens or more


class JobFailed(Frame, frozen=True):
    """The job ends here. `is_asked_wrong`: by what it asks, not by what went wrong with it."""

    job_id: int
    reason: str
    is_asked_wrong: bool = False


class Embedded(Frame, frozen=True):
    """The vectors of the job's next texts."""

    job_id: int
    vectors: Vectors


class Tokens(Frame, frozen=True):
    call_id: int
    tokens: list[int]


class Pieces(Frame, frozen=True):
    """Bytes, as a token may be a part of a character: of each token, or of all of them as the one piece there is."""

    call_id: int
    pieces: list[bytes]


class CallFailed(Frame, frozen=True):
    """No tokens, or no pieces. `is_asked_wrong`: by what is asked, not by what went wrong with it."""

    call_id: int
    reason: str
    is_asked_wrong: bool = False


ToWorker = Load | Attach | Submit | Embed | Cancel | Tokenize | Detokenize | Limit
FromWorker = (
    Hello | Progress | Loaded | LoadFailed | Taken | StepFrame | Embedded | Overflow | JobFailed | Tokens | Pieces | CallFailed
)

_encoder: Final = msgspec.msgpack.Encoder()


def encode(frame: Frame) -> bytes:
    """The frame with its length before it."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


class FrameSplitter:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete with these bytes."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, at)
            end = at + _LENGTH.size + size
            if len(self._buffer) < end:
                break
            yield bytes(memoryview(self._buffer)[at + _LENGTH.size : end])  # copied once: a job may have megabytes
            at = end
        del self._buffer[:at]

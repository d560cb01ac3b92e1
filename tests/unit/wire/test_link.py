import msgspec
import pytest

from corral.core.types import EngineInfo, Finish, Job, LoadSpec, Sampling, Vectors
from corral.wire.link import (
    Attach,
    CallFailed,
    Cancel,
    Detokenize,
    Embed,
    Embedded,
    Frame,
    FrameSplitter,
    FromWorker,
    Gain,
    Hello,
    JobFailed,
    Limit,
    Load,
    Loaded,
    LoadFailed,
    Overflow,
    Pieces,
    Progress,
    StepFrame,
    Submit,
    Taken,
    Tokenize,
    Tokens,
    ToWorker,
    encode,
)

FINISH = Finish(reason="stop", prompt_tokens=7, cached_tokens=3, prompt_ns=5, eval_tokens=2, eval_ns=1 << 62)
JOB = Job(
    prompt="Ein Gruß\n\x00🦙",
    suffix="Ende",
    prefix_tokens=(1, 2, 2**31 - 1),
    sampling=Sampling(temperature=0.0, seed=2**32 - 1),
    stop=("</s>", ""),
    num_predict=-2,
    num_ctx=2048,
    shift=False,
)
INFO = EngineInfo(
    n_ctx=4096, n_ctx_train=8192, n_parallel=16, size_bytes=1 << 40, vram_bytes=0, can_shift=True, devices=("CPU", "CUDA0: x")
)
SPEC = LoadSpec(model_path="/a b/ü.gguf", adapter_paths=("/x",), n_ctx=4096, n_parallel=16, use_mmap=False)
TO_WORKER = [
    Load(SPEC),
    Attach(1, 0, b"\x00\xff"),
    Submit(1, JOB),
    Embed(2, ["", "ü\x00🦙"], 512, truncate=True),
    Cancel(2**53),
    Embed(3, ["a"], 512, truncate=False, query="ü\x00?"),
    Tokenize(4, "a\ud7ffb", add_special=True),
    Tokenize(4, "", add_special=False, parse_special=False),
    Detokenize(5, [0, 2**31 - 1], is_apart=True),
    Limit(1 << 40),
]
FROM_WORKER = [
    Hello(("CPU",), gpu_total_bytes=0),
    Progress(0.25),
    Loaded(INFO),
    LoadFailed("no such file: 'x'"),
    StepFrame([Gain(1, "text"), Gain(2, "", FINISH)]),
    StepFrame([]),
    Taken(3),
    Overflow(3, 4097, 4096),
    JobFailed(4, "reason"),
    Embedded(6, Vectors(2, bytes(range(256)), 17)),
    Tokens(5, list(range(300))),
    Pieces(6, [b"", bytes(range(256))]),
    CallFailed(7, "reason"),
]


def by_name(frame: Frame) -> str:
    return type(frame).__name__


def bodies(*pieces: bytes) -> list[bytes]:
    splitter = FrameSplitter()
    return [body for piece in pieces for body in splitter.feed(piece)]


@pytest.mark.parametrize("frame", TO_WORKER, ids=by_name)
def test_frame_to_worker_comes_back_as_it_was(frame: Frame) -> None:
    (body,) = bodies(encode(frame))
    decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
    assert decoder.decode(body) == frame


@pytest.mark.parametrize("frame", FROM_WORKER, ids=by_name)
def test_frame_from_worker_comes_back_as_it_was(frame: Frame) -> None:
    (body,) = bodies(encode(frame))
    decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
    assert decoder.decode(body) == frame


def test_every_kind_of_frame_is_tried_here() -> None:
    assert {type(frame) for frame in TO_WORKER} == set(ToWorker.__args__)
    assert {type(frame) for frame in FROM_WORKER} == set(FromWorker.__args__)


def test_stream_cut_anywhere_gives_the_same_frames() -> None:
    data = b"".join(map(encode, FROM_WORKER))
    whole = bodies(data)
    assert len(whole) == len(FROM_WORKER)
    assert all(bodies(data[:at], data[at:]) == whole for at in range(len(data) + 1))


def test_stream_byte_by_byte_gives_each_frame_with_its_last_byte() -> None:
    first, second = encode(Cancel(1)), encode(Cancel(2))
    splitter = FrameSplitter()
    gained = [len(list(splitter.feed(bytes([byte])))) for byte in first + second]
    assert gained == [*[0] * (len(first) - 1), 1, *[0] * (len(second) - 1), 1]


def test_length_goes_before_the_body_in_little_endian() -> None:
    data = encode(LoadFailed("x" * 300))
    assert int.from_bytes(data[:4], "little") == len(data) - 4

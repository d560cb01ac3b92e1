"""Sound files before they are decoded: whether they are any, and how long. Worker side, pure.

llama.cpp decodes them, and takes as much memory as a file says that it needs: what a file says is held against its size first.
"""

import struct
from typing import Final

from corral.engine.llamacpp.worker.media.pictures import UnreadableError

FORM_NAMES: Final = "WAV, MP3 or FLAC"
MAX_S: Final = 3600  # 230 MB of samples; no model hears so much at once
_WAV_FORMS: Final = frozenset({1, 3, 6, 7})  # whole numbers, floats, A-law, mu-law: samples of one size
_EXTENSIBLE: Final = 0xFFFE
_FLAC_INFO: Final = 0
_MOST_JUNK_BYTES: Final = 1 << 20  # between two frames of an MP3
_MP3_RATES: Final = (44_100, 48_000, 32_000)
_MP3_KBITS: Final = {  # by whether it is MPEG 1, and by layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def is_sound(data: bytes) -> bool:
    """By the same signs as llama.cpp's.

    Source: llama.cpp tools/mtmd/mtmd-helper.cpp, is_audio_file.
    """
    return _is_wav(data) or data.startswith(b"fLaC") or _is_mp3(data)


def check_sound(data: bytes) -> bytes:
    """The file as it can be decoded without harm. Raises UnreadableError."""
    try:
        if _is_wav(data):
            data, length_s = _wav(data)
        else:
            length_s = _flac_s(data) if data.startswith(b"fLaC") else _mp3_s(data)
    except (struct.error, ZeroDivisionError) as exc:
        raise UnreadableError("it is broken") from exc
    if length_s > MAX_S:
        raise UnreadableError(f"it is {length_s / 60:.0f} minutes long; cut it to {MAX_S // 60} or less")
    return data


def _is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def _is_mp3(data: bytes) -> bool:
    return data.startswith(b"ID3") or (len(data) > 11 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0)


def _wav(data: bytes) -> tuple[bytes, float]:
    """With the true length of its samples in it, which one that was written as a stream does not have; and its seconds."""
    at, rate = 12, 0
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if name == b"fmt ":
            form, _, _, rate = struct.unpack_from("<HHII", data, body)
            if form == _EXTENSIBLE and size >= 26:
                (form,) = struct.unpack_from("<H", data, body + 24)
            if form not in _WAV_FORMS:
                raise UnreadableError(f"it is a WAV of a kind (0x{form:x}) that cannot be read; use PCM")
        elif name == b"data":
            if not rate:
                raise UnreadableError("it is broken")
            there = len(data) - body
            if size > there:
                data, size = data[: at + 4] + struct.pack("<I", there) + data[body:], there
            return data, size / rate
        at = body + size + size % 2
    raise UnreadableError("it has no sound in it")


def _flac_s(data: bytes) -> float:
    if len(data) < 26 or data[4] & 0x7F != _FLAC_INFO:
        raise UnreadableError("it is broken")
    (bits,) = struct.unpack_from(">Q", data, 18)
    rate, samples = bits >> 44, bits & ((1 << 36) - 1)
    return float(samples / rate)


def _mp3_s(data: bytes) -> float:
    """The sum of its frames. Bytes that are none are passed over, as decoders do."""
    at, length_s, junk_bytes = 0, 0.0, 0
    if data.startswith(b"ID3") and len(data) > 10:
        at = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 4:
        frame_bytes, frame_s = _mp3_frame(data, at)
        length_s += frame_s
        at += frame_bytes
        junk_bytes = 0 if frame_s else junk_bytes + frame_bytes
        if junk_bytes > _MOST_JUNK_BYTES:
            raise UnreadableError("it has no sound in it")
    return length_s


def _mp3_frame(data: bytes, at: int) -> tuple[int, float]:
    """The size and the length of the frame that begins there; a size of 1 where none does."""
    second, third = data[at + 1], data[at + 2]
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    rate_index, bit_index = third >> 2 & 3, third >> 4
    if second & 0xE0 != 0xE0 or version == 1 or layer == 4 or rate_index == 3 or bit_index == 15:
        return 1, 0.0
    is_first = version == 3
    rate = _MP3_RATES[rate_index] >> (0 if is_first else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 1152 if is_first or layer == 2 else 576
    kbits = _MP3_KBITS[is_first, layer][bit_index]  # 0 where the file does not say: its frames may be of any size
    return max(1, samples // 8 * kbits * 1000 // rate), samples / rate

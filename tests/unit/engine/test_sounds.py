"""Sound files: which they are, how long, and what they only claim."""

import struct

import pytest

from corral.engine.llamacpp.worker.media.pictures import UnreadableError
from corral.engine.llamacpp.worker.media.sounds import check_sound, is_sound
from tests.support.gguf_vision import picture, sound


def flac(samples: int, rate: int = 16_000) -> bytes:
    return b"fLaC\x80\0\0\x22" + bytes(10) + struct.pack(">Q", rate << 44 | 15 << 36 | samples) + bytes(16)


def mp3(frames: int, *, bits: int = 9, head: int = 0xFB) -> bytes:
    """Frames of MPEG 1, layer 3, at 44.1 kHz; 128 kbit/s, 417 bytes and 26 ms each, unless told otherwise."""
    return (bytes([0xFF, head, bits << 4, 0]) + bytes(413)) * frames


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(sound(), True, id="wav"),
        pytest.param(flac(10), True, id="flac"),
        pytest.param(mp3(2), True, id="mp3"),
        pytest.param(b"ID3\x04", True, id="mp3-with-tags"),
        pytest.param(picture(form="JPEG"), False, id="jpeg"),
        pytest.param(picture(form="WEBP"), False, id="webp-is-a-riff-too"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"RIFF", False, id="half-a-head"),
    ],
)
def test_is_sound_goes_by_the_first_bytes(data: bytes, expected: bool) -> None:
    assert is_sound(data) is expected


@pytest.mark.parametrize("data", [sound(), flac(16_000), mp3(40)], ids=["wav", "flac", "mp3"])
def test_check_sound_lets_pass_what_is_whole(data: bytes) -> None:
    assert check_sound(data) == data


def test_check_sound_corrects_the_length_of_a_stream() -> None:
    whole = sound(0.1)
    at = whole.index(b"data") + 4
    assert check_sound(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :]) == whole


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(flac(2**36 - 1), "it is 71583 minutes long; cut it to 60 or less", id="flac-that-claims-much"),
        pytest.param(flac(5, rate=0), "it is broken", id="flac-without-a-rate"),
        pytest.param(b"fLaC\x80", "it is broken", id="half-a-flac"),
        pytest.param(b"RIFF\0\0\0\0WAVE", "it has no sound in it", id="wav-without-chunks"),
        pytest.param(b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "it is broken", id="wav-without-a-form"),
        pytest.param(sound(0.1).replace(b"\1\0\1\0", b"\x55\0\1\0", 1), "it is a WAV of a kind (0x55)", id="mp3-in-a-wav"),
        pytest.param(sound(0.1, rate=1000)[:28] + struct.pack("<I", 0) + bytes(40), "it ", id="no-rate"),
        pytest.param(mp3(150_000), "it is 65 minutes long", id="long-mp3"),
        pytest.param(mp3(150_000, bits=0), "it is", id="mp3-of-frames-of-any-size"),
    ],
)
def test_check_sound_says_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        check_sound(data)
    assert str(caught.value).startswith(reason)

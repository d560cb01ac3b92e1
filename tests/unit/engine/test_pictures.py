"""Image files of every kind, whole and broken."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from corral.engine.llamacpp.worker.media.pictures import MAX_PIXELS, MAX_SIDE, UnreadableError, read_picture
from tests.support.gguf_vision import picture


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, form, **options)
        return file.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A PNG with a head and a few bytes of pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_read_picture_knows_every_form(form: str) -> None:
    found = read_picture(picture(3, (20, 10), form))
    assert (found.width, found.height, found.size_bytes) == (20, 10, 600)


def test_read_picture_gives_the_pixels_row_by_row() -> None:
    image = Image.new("RGB", (2, 2))
    image.putpixel((1, 0), (1, 2, 3))
    assert read_picture(saved(image, "PNG")).pixels == bytes([0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_read_picture_makes_colours_of_every_mode(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert read_picture(saved(Image.new("RGB", (3, 2), "white").convert(mode), form)).pixels == b"\xff" * 18


def test_read_picture_shows_what_is_transparent_on_white() -> None:
    image = Image.new("RGBA", (1, 2), (200, 0, 0, 0))
    image.putpixel((0, 1), (200, 0, 0, 255))
    assert read_picture(saved(image, "PNG")).pixels == bytes([255, 255, 255, 200, 0, 0])


def test_read_picture_keeps_the_shades_of_16_bits() -> None:
    grey = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16))
    assert read_picture(saved(grey, "PNG")).pixels == bytes([0] * 3 + [128] * 3 + [255] * 3)


def test_read_picture_turns_it_as_the_camera_says() -> None:
    image = Image.new("RGB", (30, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    found = read_picture(saved(image, "JPEG", exif=exif))
    assert (found.width, found.height) == (10, 30)


def test_read_picture_takes_the_first_of_moving_ones() -> None:
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("white", "black")]
    found = read_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.pixels == b"\xff" * 6


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "it is no JPEG, PNG, GIF, BMP or WebP", id="empty"),
        pytest.param(b"just a text", "it is no JPEG, PNG, GIF, BMP or WebP", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is no JPEG", id="svg"),
        pytest.param(b"%PDF-1.7", "it is no JPEG", id="pdf"),
        pytest.param(picture(size=(40, 40))[:300], "it is broken", id="cut-png"),
        pytest.param(picture(size=(40, 40), form="JPEG")[:300], "it is broken", id="cut-jpeg"),
        pytest.param(picture(size=(40, 40), form="WEBP")[:300], "it is ", id="cut-webp"),
        pytest.param(picture(size=(40, 40), form="GIF")[:300], "it is broken", id="cut-gif"),
        pytest.param(b"\xff\xd8\xff\xe0" + bytes(40), "it is ", id="head-of-a-jpeg"),
        pytest.param(
            png_that_says(10_000, 10_000), "it has 10000 x 10000 pixels; make it smaller than 50", id="100-megapixels"
        ),
        pytest.param(png_that_says(2**31 - 1, 2**31 - 1), "it has 2147483647 x 2147483647", id="largest-that-can-be-said"),
        pytest.param(
            png_that_says(1, 49_000_000), "it has 1 x 49000000 pixels; make it no longer than 16384 on a side", id="thin"
        ),
        pytest.param(png_that_says(16_385, 2), "it has 16385 x 2 pixels; make it no longer than 16384 on a side", id="wide"),
        pytest.param(png_that_says(0, 5), "it is ", id="no-width"),
        pytest.param(png_that_says(4000, 4000), "it is broken", id="fewer-pixels-than-it-says"),
    ],
)
def test_read_picture_says_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_picture(data)
    assert str(caught.value).startswith(reason)


def test_read_picture_takes_the_longest_side() -> None:
    assert read_picture(saved(Image.new("RGB", (MAX_SIDE, 1)), "PNG")).width == MAX_SIDE


def test_read_picture_never_fails_in_another_way() -> None:
    random = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        whole = bytearray(picture(1, (16, 16), form))
        for _ in range(60):
            data = bytearray(whole)
            for at in random.integers(0, len(data), 4):
                data[at] = random.integers(0, 256)
            try:
                found = read_picture(bytes(data))
            except UnreadableError:
                continue
            assert found.width * found.height <= MAX_PIXELS

"""Image files to pixels. What is no image, is broken, or is larger than anybody can have meant is refused. Worker side.

Pillow decodes them: what llama.cpp brings for it knows no WebP and looks at no limits. Pixels are as a person sees them: turned
the way the camera says, on white where they are transparent.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

FORMS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
FORM_NAMES: Final = "JPEG, PNG, GIF, BMP or WebP"
MAX_PIXELS: Final = 50_000_000  # more than any phone's camera gives without being asked; 150 MB of memory
MAX_SIDE: Final = 16_384  # pixels: the longest panorama of a phone; what is longer and narrower takes projectors half a minute
_SIGNS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8")  # that files begin with, and nothing else does
_BROKEN: Final = (  # what Pillow raises for files that are not what they say
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


class UnreadableError(Exception):
    """The file cannot be shown to a model; the text says why, as the rest of a sentence about it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image's size, and its pixels row by row, three bytes each; without them where only the size is wanted."""

    width: int
    height: int
    pixels: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.pixels or b"")


def read_picture(data: bytes) -> Picture:
    """Raises UnreadableError."""
    from PIL import Image, UnidentifiedImageError  # late: only a worker whose model sees needs it

    Image.MAX_IMAGE_PIXELS = None  # it warns of some, refuses others; the limit here is our own
    try:
        image = Image.open(io.BytesIO(data), formats=FORMS)
    except UnidentifiedImageError as exc:
        is_cut = data.startswith(_SIGNS) or data[8:12] == b"WEBP"
        raise UnreadableError("it is broken" if is_cut else f"it is no {FORM_NAMES}") from exc
    except _BROKEN as exc:
        raise UnreadableError(f"it is broken ({exc})") from exc
    with image:
        _check_size(image.width, image.height)
        try:
            shown = _as_seen(image)
        except _BROKEN as exc:
            raise UnreadableError(f"it is broken ({exc})") from exc
        return Picture(shown.width, shown.height, shown.tobytes())


def _check_size(width: int, height: int) -> None:
    size = f"it has {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{size}; make it smaller than {MAX_PIXELS // 1_000_000} million")
    if max(width, height) > MAX_SIDE:
        raise UnreadableError(f"{size}; make it no longer than {MAX_SIDE} on a side")


def _as_seen(image: Any) -> Any:
    """The image turned upright, in red, green and blue."""
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")

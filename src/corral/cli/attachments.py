"""Files that a prompt names by their paths: found, checked, and taken out of the text.

What looks like a path and is no file stays text. Which kinds are looked for is the model's to say: pictures with "vision",
sounds with "audio".
"""

import base64
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import BadRequestError

_LARGEST_BYTES: Final = 100 * 1024 * 1024
_LONGEST_PATH: Final = 4096
_START = re.compile(r"""(?<![^\s'"(\[<`])(?:~?/|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\)""")
_END = re.compile(r"""\.(jpe?g|png|webp|wav|mp3)(?=$|[\s'")\]>`,.;:!?])""", re.IGNORECASE)
_ESCAPED = re.compile(r"""\\([ ()\[\]{}$&;'"\\*?~!#`|<>])""")
_QUOTES: Final = "'\"`"


class AttachmentError(BadRequestError):
    """A file that was named cannot be sent."""

    code = "bad_attachment"


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    capability: str  # what a model needs for it


IMAGE: Final = Kind("image", "vision")
SOUND: Final = Kind("audio", "audio")


@dataclass(frozen=True, slots=True)
class File:
    """A file named in a text. `path` as the user means it, without escapes; `data` is base64."""

    path: str
    kind: Kind
    data: str


@dataclass(frozen=True, slots=True)
class Attached:
    """What is left of a text, and the files that it named. `left_out` are those that the model cannot take: they stay text."""

    text: str
    files: tuple[File, ...] = ()
    left_out: tuple[tuple[str, Kind], ...] = ()


def left_out(path: str, kind: Kind, model: str) -> str:
    """The line that tells of a file that the model does not get."""
    return f"'{path}' is sent as text: {model} does not support {kind.capability}\n"


def attach(text: str, capabilities: Collection[str]) -> Attached:
    """Reads the files that the text names and the model can take. Raises AttachmentError for one that is not what it seems."""
    files: list[File] = []
    left: list[str] = []
    not_taken: list[tuple[str, Kind]] = []
    at = 0
    for start, end, path in _paths(text):
        kind = _kind(path)
        if kind.capability not in capabilities:
            not_taken.append((path, kind))
            continue
        files.append(File(path, kind, _read(path, kind)))
        if start > at and text[start - 1] in _QUOTES and text[end : end + 1] == text[start - 1]:
            start, end = start - 1, end + 1
        left.append(text[at:start])
        at = end
    rest = "".join([*left, text[at:]]).strip() if files else text
    return Attached(rest, tuple(files), tuple(not_taken))


def _paths(text: str) -> Iterator[tuple[int, int, str]]:
    """Where the text names files that exist: start, end, and the path. The longest that ends at a place wins."""
    at = 0
    for ending in _END.finditer(text):
        end = ending.end()
        line = text.rfind("\n", at, end) + 1
        for begin in _START.finditer(text, max(at, line, end - _LONGEST_PATH), end):
            if path := _existing(text[begin.start() : end]):
                yield begin.start(), end, path
                at = end
                break


def _existing(spelled: str) -> str:
    unescaped = _ESCAPED.sub(r"\1", spelled.replace("'\\''", "'"))
    return next((path for path in (spelled, unescaped) if os.path.isfile(os.path.expanduser(path))), "")  # noqa: PTH111,PTH113  any text will do for these


def _kind(path: str) -> Kind:
    return SOUND if path.lower().endswith((".wav", ".mp3")) else IMAGE


def _read(path: str, kind: Kind) -> str:
    try:
        file = Path(path).expanduser()
        if (size_bytes := file.stat().st_size) > _LARGEST_BYTES:
            raise AttachmentError(f"cannot attach '{path}': it has {size_bytes} bytes, and {_LARGEST_BYTES} are taken")
        data = file.read_bytes()
    except OSError as exc:
        raise AttachmentError(f"cannot attach '{path}': {exc.strerror or exc}") from exc
    if not _is_of(kind, data[:12]):
        what = "JPEG, PNG or WebP image" if kind is IMAGE else "WAV or MP3 file"
        raise AttachmentError(f"cannot attach '{path}': it is no {what}")
    return base64.b64encode(data).decode()


def _is_of(kind: Kind, head: bytes) -> bool:
    if kind is IMAGE:
        return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP")
    return head.startswith((b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")) or (head[:4], head[8:12]) == (b"RIFF", b"WAVE")

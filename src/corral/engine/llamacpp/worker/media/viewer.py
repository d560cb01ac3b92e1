"""What a job shows to its model: from files and a prompt with tags to tokens and spans, and from these to embeddings.

Works step by step and waits for each; who calls it sees to it that nobody else waits. An image's pixels are needed only to
encode it: where it lies among the tokens depends on its size alone, which is remembered. Worker side.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy.typing as npt

from corral.core.types import Job
from corral.engine.llamacpp.worker.media import sounds
from corral.engine.llamacpp.worker.media.lately import Lately
from corral.engine.llamacpp.worker.media.pictures import FORM_NAMES, Picture, UnreadableError, read_picture
from corral.engine.llamacpp.worker.media.spans import Piece, Spans, laid_out, tagged

_DECODED_BYTES: Final = 96 << 20  # of pixels and samples that wait for the encoder
_SIZES_KEPT: Final = 65_536  # of images that were shown before

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sound:
    """How many samples a sound has, and the samples; without them where only the length is wanted."""

    length: int
    samples: Array | None = None

    @property
    def size_bytes(self) -> int:
        return 0 if self.samples is None else int(self.samples.nbytes)


Medium = Picture | Sound


@dataclass(frozen=True, slots=True)
class Shown:
    """A medium in a prompt; by `content`, the digest of its file, it is known."""

    medium: Medium
    content: bytes


Parts = Sequence[str | Shown]  # of a prompt: its texts, and what is shown between them


@dataclass(frozen=True, slots=True)
class View:
    """A prompt, laid out. `media` are the files, by the numbers of the parts that show them."""

    parts: Parts
    media: dict[int, bytes]
    tokens: list[int]
    spans: Spans


class Opened(Protocol):
    """A medium that is ready to be encoded piece by piece."""

    def encoded(self, piece: Piece) -> Array: ...


class Encoder(Protocol):
    """What is needed of a projector: projector.py."""

    sees: bool
    hears: bool

    def heard(self, data: bytes) -> Sound: ...
    def layout(self, parts: Parts, *, begin: int, add_special: bool) -> list[list[int] | Piece]: ...
    def opened(self, parts: Parts, number: int) -> AbstractContextManager[Opened]: ...


class Viewer:
    """For one thread."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._decoded: Lately[Medium] = Lately(_DECODED_BYTES)
        self._sizes: Lately[Medium] = Lately(_SIZES_KEPT)

    def view(self, job: Job) -> View:
        """Raises UnreadableError, with a whole sentence, for media that cannot be shown, and EngineError."""
        named = tagged(job.prompt, len(job.media))
        if missing := set(range(len(job.media))) - {part for part in named if isinstance(part, int)}:
            number = min(missing)
            name = _named(number, job.media[number])
            raise UnreadableError(f"{name} has no place in the prompt; put [img-{number}] where it belongs")
        times = sum(isinstance(part, int) for part in named)
        if times > job.num_ctx:  # a text can name one image any number of times
            raise UnreadableError(f"the prompt shows images {times} times, and the context has room for {job.num_ctx} tokens")
        shown = [self._shown(number, data) for number, data in enumerate(job.media)]
        parts = [part if isinstance(part, str) else shown[part] for part in named]
        try:
            laid = self._laid_out(parts, job)
        except UnreadableError:
            for number, medium in enumerate(shown):
                self._check_size(_named(number, job.media[number]), medium)
            raise
        media = {place: job.media[part] for place, part in enumerate(named) if isinstance(part, int)}
        return View(parts, media, *laid_out(job.prefix_tokens, laid))

    def _laid_out(self, parts: Parts, job: Job) -> list[list[int] | Piece]:
        begin, add_special = len(job.prefix_tokens), not job.prefix_tokens
        laid = self._encoder.layout(parts, begin=begin, add_special=add_special)
        if isinstance(laid[-1], Piece):  # an answer begins with what is drawn from a token
            return self._encoder.layout([*parts, "\n"], begin=begin, add_special=add_special)
        return laid

    def _check_size(self, name: str, medium: Shown) -> None:
        try:
            self._encoder.layout([medium], begin=0, add_special=False)
        except UnreadableError as exc:
            raise UnreadableError(f"{name} cannot be shown: {exc}") from exc

    def _shown(self, number: int, data: bytes) -> Shown:
        content = hashlib.sha256(data).digest()
        size = self._sizes.get(content)
        if size is None:
            try:
                medium = self._decode(content, data)
            except UnreadableError as exc:
                raise UnreadableError(f"{_named(number, data)} cannot be read: {exc}") from exc
            size = _bare(medium)
            self._sizes.put(content, size, 1)
        return Shown(size, content)

    def _decode(self, content: bytes, data: bytes) -> Medium:
        medium = self._decoded.get(content)
        if medium is None:
            medium = self._heard(data) if sounds.is_sound(data) else self._seen(data)
            self._decoded.put(content, medium, medium.size_bytes)
        return medium

    def _heard(self, data: bytes) -> Sound:
        if not self._encoder.hears:
            raise UnreadableError("this model cannot hear")
        return self._encoder.heard(sounds.check_sound(data))

    def _seen(self, data: bytes) -> Picture:
        if not self._encoder.sees:
            raise UnreadableError(f"it is no {sounds.FORM_NAMES}, and this model can only hear")
        try:
            return read_picture(data)
        except UnreadableError as exc:
            if self._encoder.hears and str(exc).endswith(FORM_NAMES):
                raise UnreadableError(f"{exc}, and no {sounds.FORM_NAMES}") from exc
            raise

    @contextmanager
    def opened(self, view: View, number: int) -> Iterator[Opened]:
        """The medium that the part of that number shows, ready to be encoded.

        The others keep their places without pixels: there are models whose pieces depend on what comes before them.
        Raises UnreadableError where it could be laid out, and cannot be cut as that says.
        """
        shown = view.parts[number]
        assert isinstance(shown, Shown), "only media are encoded"
        parts = list(view.parts)
        parts[number] = Shown(self._decode(shown.content, view.media[number]), shown.content)
        try:
            with self._encoder.opened(parts, number) as opened:
                yield opened
        except UnreadableError as exc:
            raise UnreadableError(f"an image cannot be shown: {exc}") from exc
        finally:
            self._decoded.drop(shown.content)


def _named(number: int, data: bytes) -> str:
    """What a request's author knows it as: counted together, as they came."""
    return f"{'sound' if sounds.is_sound(data) else 'image'} {number + 1}"


def _bare(medium: Medium) -> Medium:
    """Its size alone."""
    return Picture(medium.width, medium.height) if isinstance(medium, Picture) else Sound(medium.length)

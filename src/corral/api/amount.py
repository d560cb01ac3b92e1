"""How many values a JSON body has, found before it is decoded: a body of nothing but tiny ones grows twentyfold in memory, and
its decoding would hold up the server for seconds.

Nothing here looks at single bytes in Python: a body of a hundred megabytes is counted in a fraction of a second, a piece at a
time, so that other threads have their turns between.
"""

from collections.abc import Iterator
from typing import Final

from corral.core.errors import BadRequestError

MAX_VALUES: Final = 1_000_000  # as many numbers as the longest context has tokens, and far more texts than a request embeds
_SMALL_BYTES: Final = 1 << 20  # has no more values than its bytes can hold, which are soon read
_PIECE_BYTES: Final = 1 << 18
_MARKS: Final = (b",", b"[", b"{")  # one of them stands before each value but the outermost


def check_amount(body: bytes) -> None:
    """Raises BadRequestError for a body with more than MAX_VALUES values; one that is no JSON may pass."""
    if len(body) <= _SMALL_BYTES:
        return
    marks = quotes = 0
    for piece in _pieces(body):
        bare = piece.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote begins or ends a text
        parts = bare.split(b'"')
        between = b"".join(parts[quotes % 2 :: 2])  # the texts
        marks += sum(between.count(mark) for mark in _MARKS)
        quotes += len(parts) - 1
        if marks >= MAX_VALUES:
            raise BadRequestError(
                f"the request's JSON has more than {MAX_VALUES} values, texts and numbers in lists among them; "
                "send them in several requests"
            )


def _pieces(body: bytes) -> Iterator[bytes]:
    """The body, cut where no escape is cut."""
    begin = 0
    while begin < len(body):
        piece = body[begin : begin + _PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[begin : begin + _PIECE_BYTES + 1]
        yield piece
        begin += len(piece)

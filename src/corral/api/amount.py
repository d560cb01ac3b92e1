"""How many values a JSON body has, found before it is decoded: a body of nothing but tiny ones grows twentyfold in memory, and
its decoding would hold up the server for seconds.

Nothing here looks at single bytes in Python: a body of hundreds of megabytes is counted in a fraction of a second.
"""

from typing import Final

from corral.core.errors import BadRequestError

MAX_VALUES: Final = 1_000_000  # as many numbers as the longest context has tokens, and far more texts than a request embeds
_SMALL_BYTES: Final = 1 << 20  # has no more values than its bytes can hold, which are soon read
_MARKS: Final = (b",", b"[", b"{")  # one of them stands before each value but the outermost


def check_amount(body: bytes) -> None:
    """Raises BadRequestError for a body with more than MAX_VALUES values; one that is no JSON may pass."""
    if len(body) <= _SMALL_BYTES or _marks(body) < MAX_VALUES:
        return
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote begins or ends a text
    if bare.count(b'"') > 4 * MAX_VALUES or _marks(b"".join(bare.split(b'"')[::2])) >= MAX_VALUES:
        raise BadRequestError(
            f"the request's JSON has more than {MAX_VALUES} values, texts and numbers in lists among them; "
            "send them in several requests"
        )


def _marks(text: bytes) -> int:
    return sum(text.count(mark) for mark in _MARKS)

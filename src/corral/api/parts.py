"""The parts of a turn, as dialects with parts send them, as the one text of a message."""

from collections.abc import Sequence

from corral.core.types import PLACE, PLACE_APART


def joined(parts: Sequence[str | bytes]) -> str:
    """The texts with a line break between two of them, and with places for media that do not stand before all text."""
    texts = [part for part in parts if isinstance(part, str)]
    place = PLACE_APART if any(PLACE in text for text in texts) else PLACE
    is_plain = all(isinstance(part, str) for part in parts[len(parts) - len(texts) :])
    if is_plain and (place == PLACE or len(texts) == len(parts)):
        return "\n".join(texts)
    out = ""
    after_text = False
    for part in parts:
        is_text = isinstance(part, str)
        out += ("\n" if is_text and after_text else "") + (part if isinstance(part, str) else place)
        after_text = is_text
    return out

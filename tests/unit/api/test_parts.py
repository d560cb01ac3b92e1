"""Parts of a turn as one text: where images are among them, and what is text though it looks like their place."""

import pytest

from corral.api.parts import joined
from corral.core.types import PLACE_APART

IMAGE = b"..."


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], ""),
        (["a", "b"], "a\nb"),
        ([IMAGE, "a", "b"], "a\nb"),
        (["a", IMAGE, "b"], "a[img]b"),
        ([IMAGE, "a", IMAGE], "[img]a[img]"),
        (["say [img]", "b"], "say [img]\nb"),
        ([IMAGE, "say [img]"], f"{PLACE_APART}say [img]"),
        (["say [img]", IMAGE, "b"], f"say [img]{PLACE_APART}b"),
    ],
    ids=["none", "texts", "image first", "image between", "images around", "text alone", "text behind", "text before"],
)
def test_parts_are_one_text(parts: list[str | bytes], text: str) -> None:
    assert joined(parts) == text

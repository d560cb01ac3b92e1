from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.service.draft import Draft
from corral.store import MAX_TEXT_BYTES, ModelConfig, Store


@pytest.mark.parametrize("kind", ["template", "system", "license"])
def test_text_that_no_store_would_read_back_is_refused(tmp_path: Path, kind: str) -> None:
    draft = Draft(Store(tmp_path / "store"), ModelConfig())
    put = {"template": draft.set_template, "system": draft.set_system, "license": draft.add_license}[kind]
    with pytest.raises(BadRequestError, match=f"^the {kind} has 16777217 bytes; 16777216 is the most that a model can have$"):
        put("x" * (MAX_TEXT_BYTES + 1))
    put("x" * 100)
    assert len(draft.layers) == 1

"""Options are checked, merged and resolved as Ollama does it."""

from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.options import Options, checked


def test_later_layers_win_and_nulls_do_not() -> None:
    options = Options.resolve({"temperature": 0.5, "stop": ["a", "b"]}, {"temperature": None, "stop": ["c"], "top_k": 3})
    assert options.sampling.temperature == 0.5
    assert options.sampling.top_k == 3
    assert options.stop == ("c",)


def test_unknown_and_legacy_names_are_ignored() -> None:
    assert checked({"wings": 2, "mirostat": 1, "penalize_newline": True, "f16_kv": "x"}) == {}


def test_whole_numbers_take_floats_by_dropping_the_fraction() -> None:
    assert checked({"top_k": 1.5, "num_predict": 6.0, "seed": -1.9}) == {"top_k": 1, "num_predict": 6, "seed": -1}


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("temperature", True, 'option "temperature" must be of type float32'),
        ("num_ctx", "big", 'option "num_ctx" must be of type integer'),
        ("num_ctx", float("inf"), 'option "num_ctx" must be of type integer'),
        ("use_mmap", "yes", 'option "use_mmap" must be of type boolean'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", 3, 'option "stop" must be of type array'),
        ("stop", "a", 'option "stop" must be of type array'),
        ("stop", [3], 'option "stop" must be of an array of strings'),
    ],
)
def test_a_wrong_type_is_refused_by_name(name: str, value: Any, complaint: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        checked({name: value})
    assert str(caught.value) == complaint

import pytest

from corral.core.errors import BadRequestError
from corral.engine import QUANTIZATIONS, quantization
from corral.store import FILE_TYPES

MADE = [name for name, known in QUANTIZATIONS.items() if not known.needs_matrix]
NEED_A_MATRIX = [name for name, known in QUANTIZATIONS.items() if known.needs_matrix]


@pytest.mark.parametrize("name", MADE)
def test_quantization_is_found_in_any_case_and_is_called_as_its_file_says(name: str) -> None:
    found = quantization(name.lower())
    assert found is QUANTIZATIONS[name]
    assert FILE_TYPES[found.file_type] == name.removesuffix("_MOE")
    assert found.is_float == (found.bits >= 16)


def test_every_file_type_that_can_be_made_is_there() -> None:
    not_made = {"NVFP4"}  # llama.cpp reads it and has no name for making it
    assert {kind.file_type for kind in QUANTIZATIONS.values()} == {
        number for number, name in FILE_TYPES.items() if name not in not_made
    }


@pytest.mark.parametrize(
    ("alias", "name"), [("q3_k", "Q3_K_M"), ("q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M"), ("mxfp4", "MXFP4_MOE")]
)
def test_aliases(alias: str, name: str) -> None:
    assert quantization(alias).name == name


@pytest.mark.parametrize("name", ["q99", "copy", "", "Q4_K_M "])
def test_unknown_type_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        quantization(name)
    text = str(caught.value)
    assert text.startswith(f"unsupported quantization type {name.upper()} - supported types are F32, F16")
    assert text.partition(" types are ")[2].split(", ") == MADE


@pytest.mark.parametrize("name", NEED_A_MATRIX)
def test_type_that_needs_an_importance_matrix_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BadRequestError, match=rf"^cannot quantize to {name}: it needs an importance matrix, .*choose another"):
        quantization(name.lower())

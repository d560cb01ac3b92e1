"""Options are checked, merged and resolved as Ollama does it."""

import math
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.options import Options, adapter_scales, checked
from corral.core.types import Sampling


def test_later_layers_win_and_nulls_do_not() -> None:
    options = Options.resolve({"temperature": 0.5, "stop": ["a", "b"]}, {"temperature": None, "stop": ["c"], "top_k": 3})
    assert options.sampling.temperature == 0.5
    assert options.sampling.top_k == 3
    assert options.stop == ("c",)


def test_unknown_and_legacy_names_are_ignored() -> None:
    assert checked({"wings": 2, "numa": 1, "tfs_z": 1.0, "penalize_newline": True, "f16_kv": "x"}) == {}


def test_whole_numbers_take_floats_by_dropping_the_fraction() -> None:
    assert checked({"top_k": 1.5, "num_predict": 6.0, "seed": -1.9}) == {"top_k": 1, "num_predict": 6, "seed": -1}


def test_numbers_may_be_as_large_as_their_type() -> None:
    options = {"num_ctx": 2**31 - 1, "num_predict": -(2**31), "seed": 2**63 - 1, "temperature": 3.4e38}
    assert checked(options) == options


@pytest.mark.parametrize("value", [0, -1, 0.5])
@pytest.mark.parametrize("name", ["num_ctx", "num_batch"])
def test_a_size_below_one_means_that_nobody_chose(name: str, value: float) -> None:
    assert checked({name: value}) == {}
    assert getattr(Options.resolve({name: 1024}, {name: value}), name) == 1024


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("temperature", True, 'option "temperature" must be of type float32'),
        ("num_ctx", "big", 'option "num_ctx" must be of type integer'),
        ("num_ctx", float("inf"), 'option "num_ctx" must be of type integer'),
        ("num_batch", 1e30, 'option "num_batch" must be of type integer'),
        ("num_batch", 2**31, 'option "num_batch" must be of type integer'),
        ("num_predict", -(2**31) - 1, 'option "num_predict" must be of type integer'),
        ("top_k", float("nan"), 'option "top_k" must be of type integer'),
        ("seed", 2**63, 'option "seed" must be of type integer'),
        ("temperature", float("nan"), 'option "temperature" must be of type float32'),
        ("temperature", 1e39, 'option "temperature" must be of type float32'),
        ("top_p", float("-inf"), 'option "top_p" must be of type float32'),
        pytest.param("top_p", 10**400, 'option "top_p" must be of type float32', id="huge-float"),
        pytest.param("seed", 10**400, 'option "seed" must be of type integer', id="huge-integer"),
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


@pytest.mark.parametrize(
    ("given", "biases"),
    [
        pytest.param([[15043, 1.5], [11, False]], ((15043, 1.5), (11, -math.inf)), id="pairs"),
        pytest.param({"15043": -100, "11": 1}, ((15043, -100.0), (11, 1.0)), id="as OpenAI sends it"),
        pytest.param([["Hello", -0.5]], (("Hello", -0.5),), id="a text"),
        pytest.param({" Hello": False}, ((" Hello", -math.inf),), id="a text as a key"),
        pytest.param([], (), id="none"),
    ],
)
def test_biases_come_in_several_forms(given: object, biases: tuple[tuple[int | str, float], ...]) -> None:
    assert Options.resolve({"logit_bias": given}).sampling.logit_bias == biases


@pytest.mark.parametrize(
    "given",
    [
        *(
            [[1]],
            [1, 2],
            [[1, "x"]],
            [[1.5, 1]],
            [[True, 1]],
            [[1, True]],
            [[1, float("nan")]],
            [[-1, 1]],
            [[2**31, 1]],
            [["", 1]],
        ),
        pytest.param({"a": None}, id="null"),
        pytest.param({"9" * 5000: 1}, id="a number without end"),
        {"2147483648": 1},
    ],
    ids=str,
)
def test_biases_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(BadRequestError, match='option "logit_bias" must be of pairs'):
        checked({"logit_bias": given})


def test_biases_without_end_are_refused() -> None:
    with pytest.raises(BadRequestError, match='option "logit_bias" has 1001 pairs; it may have 1000'):
        checked({"logit_bias": [[1, 1]] * 1001})


def test_what_ollama_does_not_know_is_off_unless_asked_for() -> None:
    assert Options.resolve({}).sampling == Sampling()
    asked = {"mirostat": 2, "dry_multiplier": 0.8, "dry_sequence_breakers": ["\n"], "xtc_probability": 0.5, "top_n_sigma": 1}
    sampling = Options.resolve(asked).sampling
    assert (sampling.mirostat, sampling.dry_multiplier, sampling.dry_sequence_breakers) == (2, 0.8, ("\n",))
    assert (sampling.xtc_probability, sampling.top_n_sigma) == (0.5, 1.0)


def test_biases_with_endless_texts_are_refused() -> None:
    assert checked({"logit_bias": [["x" * 16384, 1]]})
    with pytest.raises(BadRequestError, match='option "logit_bias" has texts of 16385 characters; it may have 16384'):
        checked({"logit_bias": [["x" * 16384, 1], ["y", 1], [1, 1]]})


def test_adapters_come_as_llama_cpp_has_them() -> None:
    given = [{"id": 1, "scale": 0.5}, {"id": 0, "scale": 2, "path": "what its server tells of them, too"}]
    assert Options.resolve({"lora": given}).lora == ((1, 0.5), (0, 2.0))
    assert Options.resolve({"lora": given}, {"lora": []}).lora == Options.resolve({}).lora == ()


@pytest.mark.parametrize(
    "item",
    [
        *(1, "0", [0, 1], [True, 1.0], {"id": 0}, {"scale": 1}, {"id": "0", "scale": 1}, {"id": True, "scale": 1}),
        *({"id": 0.5, "scale": 1}, {"id": -1, "scale": 1}, {"id": 2**31, "scale": 1}, {"id": 0, "scale": True}),
        *({"id": 0, "scale": "1"}, {"id": 0, "scale": None}, {"id": 0, "scale": float("nan")}, {"id": 0, "scale": 1e39}),
    ],
    ids=str,
)
def test_adapters_that_are_none_are_refused(item: object) -> None:
    with pytest.raises(BadRequestError, match='option "lora" must be of objects with an "id"'):
        checked({"lora": [item]})


@pytest.mark.parametrize("value", [1, "x", {"id": 0, "scale": 1}], ids=str)
def test_adapters_that_are_no_list_are_refused(value: object) -> None:
    with pytest.raises(BadRequestError, match='option "lora" must be of type adapters'):
        checked({"lora": value})


def test_adapter_that_is_named_twice_is_refused() -> None:
    with pytest.raises(BadRequestError, match='option "lora" names adapter 3 more than once'):
        checked({"lora": [{"id": 3, "scale": 1}, {"id": 0, "scale": 1}, {"id": 3, "scale": 0}]})


@pytest.mark.parametrize(
    ("adapters", "scales"),
    [((), (1.0, 1.0)), (((1, 0.5),), (0.0, 0.5)), (((0, 0.0),), (0.0, 0.0)), (((1, 1.0), (0, 1.0)), (1.0, 1.0))],
    ids=["all", "one", "none", "each"],
)
def test_adapters_that_are_not_named_are_left_out(adapters: tuple[tuple[int, float], ...], scales: tuple[float, ...]) -> None:
    assert adapter_scales(adapters, 2) == scales


@pytest.mark.parametrize(("count", "has"), [(0, "has none"), (2, "has 2, which are numbered from 0 on")], ids=["none", "two"])
def test_adapter_that_the_model_does_not_have_is_refused(count: int, has: str) -> None:
    with pytest.raises(BadRequestError, match=f'option "lora" names adapter 2, and the model {has}'):
        adapter_scales(((2, 1.0),), count)

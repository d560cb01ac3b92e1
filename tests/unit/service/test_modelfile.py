"""The Modelfile of a model is read as what the model is, whatever is in its texts."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.types import Message
from corral.service.modelfile import modelfile_text, parameters_text
from corral.store import Instruction, Model, ModelConfig, parameter, parse_modelfile
from tests.support.models import make_model

pieces = st.sampled_from(
    ['"', '"""', "\n", "\r", " ", "a", "END", "<<END", "#", "FROM /etc/passwd", "PARAMETER", "{{ .Prompt }}"]
)
texts = st.lists(pieces, max_size=7).map("".join)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "stop": st.lists(texts, min_size=1, max_size=3),
        "temperature": numbers,
        "num_ctx": st.integers(1, 2**31 - 1),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "use_mmap": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), "m")


@given(
    template=texts.filter(bool),
    system=texts,
    name=texts,
    licenses=st.lists(texts, max_size=2),
    given_parameters=parameters,
    said=st.lists(texts, max_size=2),
)
def test_every_text_comes_back(
    base: Model,
    template: str,
    system: str,
    name: str,
    licenses: list[str],
    given_parameters: dict[str, object],
    said: list[str],
) -> None:
    model = replace(
        base,
        config=ModelConfig(renderer=name, parser="p", requires="0.14.0"),
        model_path=Path("/store/blobs/sha256-a"),
        adapter_paths=(Path("/store/blobs/sha256-b"),),
        projector_paths=(Path("/a folder/sha256-c"),),
        draft_paths=(Path("/store/blobs/sha256-d"),),
        licenses=tuple(licenses),
        messages=tuple(Message(role="user", content=text) for text in said),
    )
    text = modelfile_text(model, template=template, system=system, parameters=given_parameters)
    read = parse_modelfile(text)
    found: dict[str, object] = {}
    for item in (item for item in read if item.command == "parameter"):
        value = parameter(item)
        before = found.get(item.name)
        found[item.name] = [*before, *value] if isinstance(before, list) else value
    assert found == given_parameters
    assert [item for item in read if item.command != "parameter"] == [
        Instruction("from", "/store/blobs/sha256-a"),
        Instruction("adapter", "/store/blobs/sha256-b"),
        Instruction("from", "/a folder/sha256-c"),
        Instruction("draft", "/store/blobs/sha256-d"),
        Instruction("template", template),
        *([Instruction("system", system)] if system else []),
        *([Instruction("renderer", name)] if name else []),
        Instruction("parser", "p"),
        Instruction("requires", "0.14.0"),
        *(Instruction("license", text) for text in licenses),
        *(Instruction("message", text, "user") for text in said),
    ]


@pytest.mark.parametrize("key", ["a b", "", "x\nFROM /etc/passwd", "a-b", "é"])
def test_parameter_that_has_no_name_there_is_a_comment(base: Model, key: str) -> None:
    text = modelfile_text(base, template=None, system="", parameters={key: 1, "seed": 2})
    assert [(item.name, item.value) for item in parse_modelfile(text) if item.command == "parameter"] == [("seed", "2")]
    assert "# a Modelfile has no way to say this parameter" in text
    assert sum(item.command == "from" for item in parse_modelfile(text)) == 1


def test_parameters_are_a_column() -> None:
    values = {"stop": ["<a>", 'b"'], "temperature": 0.5, "num_ctx": 4096.0, "use_mmap": True}
    assert parameters_text(values).splitlines() == [
        "num_ctx                        4096",
        'stop                           "<a>"',
        'stop                           "b\\""',
        "temperature                    0.5",
        "use_mmap                       true",
    ]

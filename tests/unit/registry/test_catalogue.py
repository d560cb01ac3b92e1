import pytest

from corral.registry import CATALOGUE, find
from corral.registry.packages import complaint
from corral.store import ModelName


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("smollm2", "SmolLM2 135M Instruct, Q4_1"),
        ("smollm2:135m", "SmolLM2 135M Instruct, Q4_1"),
        ("SmolLM2:135M", "SmolLM2 135M Instruct, Q4_1"),
        ("registry.ollama.ai/library/smollm2:135m", "SmolLM2 135M Instruct, Q4_1"),
        ("gemma3:270m", "Gemma 3 270M base, Q4_K_M"),
        ("all-minilm", "all-MiniLM-L6-v2, F16"),
        ("all-minilm:22m", "all-MiniLM-L6-v2, F16"),
        ("all-minilm:l6-v2", "all-MiniLM-L6-v2, F16"),
        ("all-minilm:33m", None),
        ("gemma3", None),
        ("me/smollm2:135m", None),
        ("hf.co/library/smollm2:135m", None),
    ],
)
def test_find_knows_names_of_the_default_registry(name: str, title: str | None) -> None:
    found = find(ModelName.parse(name))
    assert (found and found.title) == title


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entry_is_complete(name: str) -> None:
    model = CATALOGUE[name]
    assert ModelName.parse(name).short == name
    assert len(bytes.fromhex(model.sha256)) == 32
    assert bool(model.license) != bool(model.license_member)
    assert 0 < model.download_bytes < model.size_bytes * 1.01  # packed, or as it is with a little around it
    if model.conversion:
        assert model.conversion.unpacked_bytes >= model.size_bytes
        assert model.conversion.parameter_count > 0


def test_complaint_says_why_connections_broke() -> None:
    said = complaint(
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.Connection at 0x7f>: "
        "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/x/\n"
        "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\n"
        "ERROR: No matching distribution found for x==1\n",
        1,
    )
    assert (
        said
        == "pip: No matching distribution found for x==1 (Failed to establish a new connection: [Errno 111] Connection refused)"
    )


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ("", "pip: it ended with status 2"),
        ("/usr/bin/python: No module named pip\n", "pip: /usr/bin/python: No module named pip"),
    ],
    ids=["silent", "no-pip"],
)
def test_complaint_always_says_something(errors: str, said: str) -> None:
    assert complaint(errors, 2) == said

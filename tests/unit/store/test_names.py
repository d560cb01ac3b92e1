import pytest

from corral.core.errors import BadRequestError
from corral.store import ModelName

OK = [
    ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
    ("llama3:8b", "registry.ollama.ai/library/llama3:8b", "llama3:8b"),
    ("Mixed:CASE", "registry.ollama.ai/library/Mixed:CASE", "Mixed:CASE"),
    ("me/llama3", "registry.ollama.ai/me/llama3:latest", "me/llama3:latest"),
    ("registry.ollama.ai/library/llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
    ("hf.co/bartowski/X-1.5.GGUF:Q4_K_M", "hf.co/bartowski/X-1.5.GGUF:Q4_K_M", "hf.co/bartowski/X-1.5.GGUF:Q4_K_M"),
    ("localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest"),
    ("http://127.0.0.1:5001/me/hello:v1", "127.0.0.1:5001/me/hello:v1", "127.0.0.1:5001/me/hello:v1"),
    ("_x:_y", "registry.ollama.ai/library/_x:_y", "_x:_y"),
    ("x:local", "registry.ollama.ai/library/x:latest", "x:latest"),
    ("x:8b:local", "registry.ollama.ai/library/x:8b", "x:8b"),
    ("x:cloud", "registry.ollama.ai/library/x:cloud", "x:cloud"),
    ("h" * 350 + "/" + "n" * 80 + "/" + "m" * 80 + ":" + "t" * 80, None, None),
]
BAD_SHAPE = ["", " ", "a b", "../x", "x/../y", "/x", "x/", "x:", ":x", "a/b/c/d", "x:a/b", "x:y:z", "x@sha256", "x\n", "ü"]
BAD_PART = ["-x", ".x", "x:-y", "a.b/c", "h/-n/m", "h" * 351 + "/n/m", "n" * 81 + "/m", "m" * 81, "m:" + "t" * 81]
BAD_SCHEME = ["http://x", "http://h/x", "://h/n/m", "HT TP://h/n/m"]


@pytest.mark.parametrize(("text", "full", "short"), OK, ids=[text[:40] for text, *_ in OK])
def test_parse_fills_in_what_is_left_out(text: str, full: str | None, short: str | None) -> None:
    name = ModelName.parse(text)
    assert full is None or (name.full, name.short) == (full, short)


@pytest.mark.parametrize("text", [*BAD_SHAPE, *BAD_PART, *BAD_SCHEME], ids=lambda text: repr(text[:30]))
def test_parse_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"^invalid model name$"):
        ModelName.parse(text)


def test_parse_keeps_the_scheme_that_was_written() -> None:
    assert ModelName.parse("http://h:1/n/m").scheme == "http"
    assert ModelName.parse("h:1/n/m").scheme == ""


@pytest.mark.parametrize("text", ["x:local:cloud", "x:cloud:local"])
def test_parse_refuses_both_places(text: str) -> None:
    with pytest.raises(BadRequestError, match=f'use either :local or :cloud, not both: "{text}"'):
        ModelName.parse(text)


def test_key_is_the_same_in_any_case() -> None:
    assert ModelName.parse("Me/LLama3:8B").key == ModelName.parse("me/llama3:8b").key


@pytest.mark.parametrize(
    ("text", "is_cloud"),
    [("x:cloud", True), ("x:120b-cloud", True), ("x:20B-Cloud", True), ("x", False), ("cloud", False), ("x:cloudy", False)],
)
def test_cloud_is_said_by_the_tag(text: str, is_cloud: bool) -> None:
    assert ModelName.parse(text).is_cloud == is_cloud


def test_how_a_registry_is_asked_is_no_part_of_the_name() -> None:
    asked, plain = ModelName.parse("http://h:1/n/m"), ModelName.parse("h:1/n/m")
    assert asked == plain
    assert len({asked, plain}) == 1
    assert plain != ModelName.parse("h:1/n/M")

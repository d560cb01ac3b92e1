"""Every way in which chat and generate refuse: one row a case, named for it, with Ollama's status and text.

Where ours is another one on purpose, the row says so. What is refused costs no load. Clients that leave while they wait (499)
are in test_api_leaving. Two capabilities that are missing at once cannot be met here: what is not "does not support chat" or
"… generate" already asks for one at most.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from corral.core.errors import EngineError, ModelLoadError, NotSupportedError
from tests.contract.conftest import Rig
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

JSON: Final = "application/json; charset=utf-8"
CHAT, GENERATE = "/api/chat", "/api/generate"
BOTH: Final = (CHAT, GENERATE)
GO_NAMES: Final = {CHAT: "ChatRequest", GENERATE: "GenerateRequest"}
ASK: Final[dict[str, dict[str, Any]]] = {
    CHAT: {"model": "hello", "messages": [{"role": "user", "content": "why?"}]},
    GENERATE: {"model": "hello", "prompt": "why?"},
}
TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PNG: Final = "iVBORw0KGgo="
LEVELS: Final = '"high", "medium", "low", "max", true, or false'
STOPPED: Final = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
NO_CLOUD: Final = "ollama cloud is disabled: remote model is unavailable"
ONE_IMAGE: Final = "this model only supports one image while more than one image requested"
NO_IMAGE_MODELS: Final = "image generation models are not currently supported"
BOTH_PLACES: Final = 'use either :local or :cloud, not both: "hello:local:cloud"'
REPEATS: Final = "prediction aborted, token repeat limit reached"
RAW: Final = "raw mode does not support template, system, or context"


def too_long(prompt_tokens: int) -> str:
    return (
        f"the prompt is longer than the context length currently available to the model: request ({prompt_tokens} tokens) "
        "exceeds the available context size (256 tokens); shorten the prompt or raise num_ctx"
    )


@dataclass(frozen=True, slots=True)
class Row:
    case: str
    error: str  # `{go}` stands for the name of the request's Go type
    body: dict[str, Any] | str = field(default_factory=dict)  # what the request has besides ASK; a text is the whole body
    status: int = 400
    on: tuple[str, ...] = BOTH


LONG_TURN: Final = [{"role": "user", "content": "w " * 300}]
SMALL: Final = {"options": {"num_ctx": 256}}

ROWS: Final = [
    # Bodies
    Row("empty body", "missing request body", ""),
    Row("blank body", "missing request body", " \n"),
    Row("no JSON", "invalid character 'x' looking for beginning of value", "x"),
    Row("JSON that ends early", "unexpected EOF", "{"),
    Row("a list", "json: cannot unmarshal array into Go value of type api.{go}", "[]"),
    Row("model of another type", "json: cannot unmarshal number into Go struct field {go}.model of type string", '{"model":3}'),
    Row(
        "stream of another type",
        "json: cannot unmarshal string into Go struct field {go}.stream of type bool",
        {"stream": "yes"},
    ),
    Row(
        "options of another type",
        "json: cannot unmarshal array into Go struct field {go}.options of type map[string]interface {{}}",
        {"options": []},
    ),
    Row(
        "messages of another type",
        "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message",
        {"messages": "x"},
        on=(CHAT,),
    ),
    Row(
        "content that is a list",
        "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
        {"messages": [{"role": "user", "content": ["x"]}]},
        on=(CHAT,),
    ),
    Row(
        "prompt of another type",
        "json: cannot unmarshal number into Go struct field GenerateRequest.prompt of type string",
        {"prompt": 3},
        on=(GENERATE,),
    ),
    Row(
        "context beyond any vocabulary",
        "json: cannot unmarshal number 2147483648 into Go struct field GenerateRequest.context of type int32",
        {"context": [1, 2**31]},
        on=(GENERATE,),
    ),
    Row(
        "context that is a text",
        "json: cannot unmarshal string into Go struct field GenerateRequest.context of type []int",
        {"context": "1 2"},
        on=(GENERATE,),
    ),
    Row(
        "image not base64",
        "illegal base64 data at input byte 0",
        {"messages": [{"role": "user", "content": "x", "images": ["%%%"]}]},
        on=(CHAT,),
    ),
    Row("image not base64", "illegal base64 data at input byte 2", {"images": ["AA%A"]}, on=(GENERATE,)),
    Row(
        "image as a data URL",
        "illegal base64 data at input byte 4",
        {"images": [f"data:image/png;base64,{PNG}"]},
        on=(GENERATE,),
    ),
    # Names
    *(
        Row(f"model {what}", "model is required", {"model": value}, on=(CHAT,))
        for what, value in (("empty", ""), ("null", None))
    ),
    *(
        Row(f"model {what}", "model '' not found", {"model": value}, status=404, on=(GENERATE,))
        for what, value in (("empty", ""), ("null", None))
    ),
    Row("malformed name", "invalid model name", {"model": "a b"}),
    Row("name that climbs", "invalid model name", {"model": "../../etc/passwd"}),
    Row("both local and cloud", BOTH_PLACES, {"model": "hello:local:cloud"}),
    Row("not found", "model 'nope' not found", {"model": "nope"}, status=404),
    Row("not found with a tag", "model 'nope:1b' not found", {"model": "nope:1b"}, status=404),
    Row("cloud off", NO_CLOUD, {"model": "gpt-oss:120b-cloud"}, status=403),
    Row("cloud off, by reference", NO_CLOUD, {"model": "elsewhere"}, status=403),
    # Values
    Row("top_logprobs above 20", "top_logprobs must be between 0 and 20", {"top_logprobs": 21}),
    Row("top_logprobs below 0", "top_logprobs must be between 0 and 20", {"top_logprobs": -1}),
    Row("top_logprobs before the model", "top_logprobs must be between 0 and 20", {"top_logprobs": 21, "model": "nope"}),
    Row("think bad string", f'invalid think value: "foo" (must be {LEVELS})', {"think": "foo"}),
    Row("think bad type", f"think must be a boolean or string ({LEVELS})", {"think": 3}),
    Row("keep_alive no duration", 'time: invalid duration "abc"', {"keep_alive": "abc"}),
    Row("keep_alive unknown unit", 'time: unknown unit " parrots" in duration "10 parrots"', {"keep_alive": "10 parrots"}),
    Row("keep_alive bad type", "Unsupported type: 'bool'", {"keep_alive": True}),
    # Ollama: 500 for these two kinds
    Row("option float32", 'option "temperature" must be of type float32', {"options": {"temperature": "hot"}}),
    Row("option integer", 'option "num_ctx" must be of type integer', {"options": {"num_ctx": "big"}}),
    Row("option boolean", 'option "use_mmap" must be of type boolean', {"options": {"use_mmap": "yes"}}),
    Row("option array", 'option "stop" must be of type array', {"options": {"stop": 3}}),
    Row("option array of strings", 'option "stop" must be of an array of strings', {"options": {"stop": [3]}}),
    Row("bad format", r'invalid format: "\"foo\""; expected "json" or a valid JSON Schema object', {"format": "foo"}),
    Row("bad format type", 'invalid format: "3"; expected "json" or a valid JSON Schema object', {"format": 3}),
    # What a model cannot do
    Row("think true", '"hello" does not support thinking', {"think": True}),
    Row("think level", '"hello" does not support thinking', {"think": "high"}),
    Row("cannot chat", '"sentences" does not support chat', {"model": "sentences"}, on=(CHAT,)),
    Row("cannot generate", '"sentences" does not support generate', {"model": "sentences"}, on=(GENERATE,)),
    Row("loading what cannot chat", '"sentences" does not support chat', {"model": "sentences", "messages": []}, on=(CHAT,)),
    Row("tools", "registry.ollama.ai/library/hello:latest does not support tools", {"tools": [TOOL]}, on=(CHAT,)),
    Row("suffix", "registry.ollama.ai/library/hello:latest does not support insert", {"suffix": "y"}, on=(GENERATE,)),
    Row("image generation", NO_IMAGE_MODELS, {"model": "painter"}),
    Row("two images", ONE_IMAGE, {"model": "old-seer", "images": [PNG, PNG]}, on=(GENERATE,)),
    Row(  # Ollama: 500
        "two images", ONE_IMAGE, {"model": "old-seer", "messages": [{"role": "user", "images": [PNG, PNG]}]}, on=(CHAT,)
    ),
    # Ollama says nothing, or what its runner says
    Row("images", '"hello" does not support vision', {"images": [PNG]}, on=(GENERATE,)),
    Row("images", '"hello" does not support vision', {"messages": [{"role": "user", "images": [PNG]}]}, on=(CHAT,)),
    # Prompts
    Row("raw and template", RAW, {"raw": True, "template": "y"}, on=(GENERATE,)),
    Row("raw and system", RAW, {"raw": True, "system": "y"}, on=(GENERATE,)),
    Row("raw and context", RAW, {"raw": True, "context": [1]}, on=(GENERATE,)),
]

# Template errors, in the words of whoever runs it (Ollama: 500)
TEMPLATES: Final = [
    pytest.param("{{ .Nope", "template: :1: ", id="a Go template that does not end"),
    pytest.param("{{ nope }}", "template: :1: ", id="a Go function that there is not"),
    pytest.param("{% for %}", "chat template", id="a Jinja template with an error"),
    pytest.param(
        "{% if 1 %}{{ raise_exception('no roles here') }}{% endif %}", "no roles here", id="a Jinja template that refuses"
    ),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    return {
        "plain": write_scripted(folder / "plain.gguf", "Hi."),
        "vectors": write_scripted(folder / "vectors.gguf", "Hi.", metadata={"llama.pooling_type": 1}),
    }


@pytest.fixture
def shop(rig: Rig, files: dict[str, Path]) -> Rig:
    """`rig` with a model of each kind."""
    store = rig.corral.store
    add_model(store, "sentences", files["vectors"])
    add_model(store, "seer", files["plain"], projector=files["plain"])
    add_model(store, "old-seer", files["plain"], projector=files["plain"], model_families=("mllama",))
    add_model(store, "painter", files["plain"], capabilities=("image",))
    with pytest.raises(NotSupportedError):
        add_model(store, "elsewhere", files["plain"], remote_host="https://example.com:443", remote_model="x")
    return rig


def rows() -> list[Any]:
    return [pytest.param(row, path, id=f"{path[5:]}: {row.case}") for row in ROWS for path in row.on]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "single"])
@pytest.mark.parametrize(("row", "path"), rows())
async def test_request_is_refused_as_clients_know_it(shop: Rig, row: Row, path: str, stream: bool) -> None:
    if isinstance(row.body, str):
        reply = await shop.http.post(path, content=row.body)
    else:
        reply = await shop.http.post(path, json=ASK[path] | {"stream": stream} | row.body)
    assert (reply.status_code, reply.headers["content-type"]) == (row.status, JSON)
    assert reply.json() == {"error": row.error.format(go=GO_NAMES[path])}
    assert shop.launcher.specs == [], "no model is loaded for a request that is refused"


@pytest.mark.parametrize(("template", "complaint"), TEMPLATES)
async def test_template_that_fails(shop: Rig, template: str, complaint: str) -> None:
    reply = await shop.http.post(GENERATE, json=ASK[GENERATE] | {"template": template})
    assert (reply.status_code, reply.headers["content-type"]) == (400, JSON)
    assert complaint in reply.json()["error"]
    assert shop.launcher.specs == []


@pytest.mark.parametrize(
    ("path", "more", "prompt_tokens"),
    [
        pytest.param(CHAT, {"messages": LONG_TURN}, 303, id="chat: the last turn alone"),
        pytest.param(
            CHAT, {"messages": [*LONG_TURN, *ASK[CHAT]["messages"]], "truncate": False}, 303, id="chat: truncate false"
        ),
        pytest.param(GENERATE, {"prompt": "w " * 300}, 300, id="generate: the prompt alone"),
        pytest.param(GENERATE, {"prompt": "w " * 300, "raw": True}, 300, id="generate: a raw prompt"),
        pytest.param(GENERATE, {"context": list(range(300)), "truncate": False}, 301, id="generate: truncate false"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "single"])
async def test_prompt_too_long(shop: Rig, path: str, more: dict[str, Any], prompt_tokens: int, stream: bool) -> None:
    reply = await shop.http.post(path, json=ASK[path] | SMALL | more | {"stream": stream})
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (400, JSON, {"error": too_long(prompt_tokens)})


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that goes wrong on the server's side, at the next request."""

    error: str
    happen: Callable[[Rig], None]
    status: int = 500


def fill_the_queue(rig: Rig) -> None:
    for client in range(512 + 512 // 8):  # an eighth is kept for clients of whom nobody waits
        rig.corral.scheduler._waiting.enter(f"client {client}")


def fail_to_load(rig: Rig) -> None:
    rig.launcher.failure = ModelLoadError("cannot load it: unknown model architecture: 'warp9'")


def lose_two_workers(rig: Rig) -> None:
    rig.say(is_lost=True)
    rig.say(is_lost=True)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "single"])
@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure(BUSY, fill_the_queue, status=503), id="queue full"),
        pytest.param(Failure(STOPPED, lambda rig: rig.say("a", crash_after=0)), id="engine crash"),
        pytest.param(Failure(STOPPED, lose_two_workers), id="engine dead, and the next one too"),
        pytest.param(Failure("cannot load it: unknown model architecture: 'warp9'", fail_to_load), id="load failure"),
    ],
)
async def test_failure_before_the_answer(shop: Rig, path: str, failure: Failure, stream: bool) -> None:
    failure.happen(shop)
    reply = await shop.http.post(path, json=ASK[path] | {"stream": stream})
    assert (reply.status_code, reply.headers["content-type"], reply.json()) == (failure.status, JSON, {"error": failure.error})
    assert reply.headers.get("retry-after") == ("1" if failure.status == 503 else None)
    if failure.status == 500:
        assert (await shop.http.post(path, json=ASK[path])).status_code == 200, "the next request is answered"


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param({"crash_after": 2}, "an error was encountered while running the model: unexpected EOF", id="engine crash"),
        pytest.param({"failure": EngineError(REPEATS)}, REPEATS, id="token repeat limit"),
    ],
)
async def test_failure_in_mid_answer(shop: Rig, path: str, script: dict[str, Any], error: str) -> None:
    """A stream has begun with 200: its last line is the error. A single answer has not: it is a 500."""
    shop.say("a", "b", "c", **script)
    reply = await shop.http.post(path, json=ASK[path])
    *said, last = reply.text.splitlines()
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
    assert last == f'{{"error":"{error}"}}'
    assert len(said) >= 2
    assert '"done":true' not in reply.text
    shop.say("a", "b", "c", **script)
    single = await shop.http.post(path, json=ASK[path] | {"stream": False})
    assert (single.status_code, single.headers["content-type"], single.json()) == (500, JSON, {"error": error})
    assert (await shop.http.post(path, json=ASK[path])).text.splitlines()[-1].count('"done":true') == 1


async def test_a_worker_that_died_while_idle_is_replaced_without_a_word(shop: Rig) -> None:
    for path in BOTH:
        shop.say(is_lost=True)
        assert (await shop.http.post(path, json=ASK[path])).status_code == 200
    assert len(shop.launcher.engines) == 3


@pytest.mark.parametrize("path", BOTH)
async def test_images_are_shown_as_tags_of_the_prompt(shop: Rig, path: str) -> None:
    more = {"model": "seer", "images": [PNG], "messages": [{"role": "user", "content": "look", "images": [PNG]}]}
    shown = (await shop.http.post(path, json=ASK[path] | more | {"_debug_render_only": True})).json()["_debug_info"]
    assert shown["image_count"] == 1
    assert "[img-0]" in shown["rendered_template"]
    assert shop.launcher.specs == []


# Loading and unloading


@pytest.mark.parametrize("model", ["hello", "sentences", "seer", "old-seer", "painter"])
@pytest.mark.parametrize("path", BOTH)
async def test_every_kind_of_model_can_be_unloaded_loaded_or_not(shop: Rig, path: str, model: str) -> None:
    for _ in range(2):
        reply = await shop.http.post(path, json={"model": model, "keep_alive": 0})
        assert (reply.status_code, reply.json()["done_reason"], reply.json()["done"]) == (200, "unload", True)


@pytest.mark.parametrize(
    "more",
    [{}, {"prompt": ""}, {"images": [PNG]}, {"suffix": "x"}, {"stream": True}],
    ids=["nothing", "empty prompt", "images alone", "suffix alone", "stream"],
)
async def test_generate_without_a_prompt_loads_whatever_else_there_is(
    shop: Rig, files: dict[str, Path], more: dict[str, Any]
) -> None:
    if "suffix" in more:
        add_model(shop.corral.store, "hello", files["plain"], template="{{ .Prompt }}{{ .Suffix }}")
    reply = await shop.http.post(GENERATE, json={"model": "hello"} | more)
    assert (reply.status_code, reply.headers["content-type"], reply.json()["done_reason"]) == (200, JSON, "load")
    assert len(shop.launcher.specs) == 1

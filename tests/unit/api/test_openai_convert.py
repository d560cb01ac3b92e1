"""OpenAI's requests as the domain's: what is mapped, what is left to the model, what is refused and how."""

import base64
from typing import Any

import msgspec
import pytest

from corral.api.decode import RequestDecoder
from corral.api.errors import FieldError, UnsupportedFieldError
from corral.api.openai import OPENAI
from corral.api.openai.completions import completion_requests, prompts_of
from corral.api.openai.convert import chat_requests
from corral.api.openai.embed import embed_request, inputs_of
from corral.core.errors import BadRequestError
from corral.core.options import Options
from corral.core.types import Message, ToolCall
from corral.service.requests import ChatRequest, GenerateRequest, ToolChoice
from corral.wire import openai as wire
from corral.wire import openai_embed

CHAT = RequestDecoder(wire.ChatCompletionRequest, OPENAI)
COMPLETION = RequestDecoder(wire.CompletionRequest, OPENAI)
EMBED = RequestDecoder(openai_embed.EmbeddingsRequest, OPENAI)
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
PNG = base64.b64encode(b"\x89PNG").decode()
WAV = base64.b64encode(b"RIFF").decode()


def chats(**body: Any) -> list[ChatRequest]:
    return chat_requests(CHAT.decode(msgspec.json.encode({"model": "m", "messages": HI} | body)), client="c")


def chat(**body: Any) -> ChatRequest:
    (request,) = chats(**body)
    return request


def said(content: Any, **more: Any) -> Message:
    (message,) = chat(messages=[{"role": "user", "content": content} | more]).messages
    return message


def completions(**body: Any) -> list[GenerateRequest]:
    given = COMPLETION.decode(msgspec.json.encode({"model": "m"} | body))
    return completion_requests(given, prompts_of(given.prompt), given.n or 1, client="c")


def test_a_silent_request_leaves_all_to_the_model() -> None:
    messages = (Message(role="user", content="hi"),)
    assert chat() == ChatRequest(model="m", messages=messages, continues=True, client="c")


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5, "top_k": 7, "min_p": 0.1}, {"top_p": 0.5, "min_p": 0.1, "top_k": 7}),
        ({"frequency_penalty": -2, "presence_penalty": 2}, {"frequency_penalty": -2, "presence_penalty": 2}),
        ({"repeat_penalty": 1.2}, {"repeat_penalty": 1.2}),
        ({"repetition_penalty": 1.3}, {"repeat_penalty": 1.3}),
        ({"seed": 3, "num_ctx": 2048}, {"seed": 3, "num_ctx": 2048}),
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_tokens": -1}, {"num_predict": -1}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"num_predict": 6}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"stop": []}, {}),
        ({"stop": ""}, {}),
        ({"options": {"num_keep": 3, "temperature": 9}, "temperature": 1}, {"num_keep": 3, "temperature": 1}),
    ],
    ids=str,
)
def test_sampling_fields_are_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    assert chat(**body).options == options


def test_logit_bias_names_tokens_by_number() -> None:
    options = Options.resolve(chat(logit_bias={"50256": -100, "7": 1.5}).options)
    assert options.sampling.logit_bias == ((50256, -100.0), (7, 1.5))


@pytest.mark.parametrize(
    ("body", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning_effort": "ultra"}, "max"),
        ({"reasoning_effort": "max"}, "max"),
        ({"reasoning": {}}, None),
        ({"think": True, "reasoning_effort": "low"}, True),
        ({"think": "high"}, "high"),
        ({}, None),
    ],
    ids=str,
)
def test_effort_says_how_to_think(body: dict[str, Any], think: Any) -> None:
    assert chat(**body).think == think


@pytest.mark.parametrize(
    ("given", "format"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_object", "schema": SCHEMA}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}, SCHEMA),
    ],
    ids=str,
)
def test_response_format(given: Any, format: Any) -> None:  # noqa: A002  the field's name
    assert chat(response_format=given).format == format


def test_constraints_of_ours() -> None:
    assert chat(grammar='root ::= "a"').grammar == 'root ::= "a"'
    assert chat(regex="a+").regex == "a+"
    assert chat(choice=["a", "b"]).choice == ("a", "b")
    assert chat(keep_alive="5m").keep_alive_s == 300


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="required", name="f")),
    ],
    ids=str,
)
def test_tool_choice(given: Any, wanted: ToolChoice) -> None:
    request = chat(tools=[TOOL], tool_choice=given, parallel_tool_calls=False)
    assert (request.tool_choice, request.tools, request.parallel_tool_calls) == (wanted, (TOOL,), False)


def test_roles_are_the_templates() -> None:
    roles = ["developer", "system", "user", "assistant", "Tool"]
    got = chat(messages=[{"role": role, "content": "x"} for role in roles]).messages
    assert [message.role for message in got] == ["system", "system", "user", "assistant", "tool"]


def test_calls_and_results_of_earlier_turns() -> None:
    messages = [
        *HI,
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":[2]}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "11"}]},
        {"role": "tool", "name": "g", "content": "12"},
    ]
    _, asked, first, second = chat(messages=messages).messages
    assert asked.thinking == "hm"
    assert asked.tool_calls == (
        ToolCall(name="f", arguments={"b": 1, "a": [2]}, call_id="1", index=0),
        ToolCall(name="g", arguments={}, call_id="2", index=1),
    )
    assert (first.content, first.tool_call_id) == ("11", "1")
    assert (second.content, second.tool_name) == ("12", "g")


def image(kind: str = "image/png", form: str = "object") -> dict[str, Any]:
    url = f"data:{kind};base64,{PNG}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"} if form == "object" else url}


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif", ""])
@pytest.mark.parametrize("form", ["object", "text"])
def test_images_are_data_urls(kind: str, form: str) -> None:
    assert said([image(kind, form)]) == Message(role="user", images=(b"\x89PNG",))


def test_parts_are_one_message() -> None:
    text = {"type": "text", "text": "a"}
    assert said([text, text]).content == "a\na"
    first = said([image(), text])
    assert (first.content, len(first.images)) == ("a", 1)
    between = said([text, image(), image(), text, text])
    assert (between.content, len(between.images)) == ("a[img][img]a\na", 2)
    assert said([]).content == ""


def test_sounds_are_media_too() -> None:
    part = {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
    assert said([part]).images == (b"RIFF",)


def test_several_answers_have_seeds_of_their_own() -> None:
    assert [request.options for request in chats(n=3, seed=5)] == [{"seed": 5}, {"seed": 6}, {"seed": 7}]
    assert [request.options["seed"] for request in chats(n=2, seed=2**63 - 1)] == [2**63 - 1, 0]
    free = [request.options.get("seed") for request in chats(n=3)]
    assert free[0] is None
    assert None not in free[1:]
    assert free[1] != free[2]
    for request in chats(n=3):
        Options.resolve(request.options)


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"temperature": 2.1}, "temperature", "temperature is 2.1; it must be between 0 and 2"),
        ({"top_p": -1}, "top_p", "top_p is -1; it must be between 0 and 1"),
        ({"presence_penalty": 3}, "presence_penalty", "presence_penalty is 3; it must be between -2 and 2"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "logit_bias is 101; it must be between -100 and 100"),
        ({"n": 0}, "n", "n is 0; it must be between 1 and 128"),
        ({"n": 129}, "n", "n is 129; it must be between 1 and 128"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is 0; it must be at least 1, or -1 for no limit"),
        (
            {"max_completion_tokens": -2},
            "max_completion_tokens",
            "max_completion_tokens is -2; it must be at least 1, or -1 for no limit",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs needs logprobs to be true"),
        ({"response_format": {}}, "response_format.type", None),
        ({"response_format": {"type": "xml"}}, "response_format.type", None),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", None),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", None),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name", None),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tool_choice": "sometimes", "tools": [TOOL]}, "tool_choice", None),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice", None),
        ({"messages": [{"content": "x"}]}, "messages[0].role", None),
        ({"messages": [*HI, {"role": "bird", "content": "x"}]}, "messages[1].role", None),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].input_audio.data",
            None,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": WAV}}]}]},
            "messages[0].content[0].input_audio.format",
            None,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "%", "format": "wav"}}]}
                ]
            },
            "messages[0].content[0].input_audio.data",
            None,
        ),
        ({"temperature": "hot"}, "temperature", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 3}]}]},
            "messages[0].content[0].image_url",
            None,
        ),
        ({"logit_bias": {"1": "x"}}, "logit_bias", None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_is_named(body: dict[str, Any], field: str, text: str | None) -> None:
    with pytest.raises(FieldError) as caught:
        chat(**body)
    assert caught.value.field == field
    assert text is None or str(caught.value) == text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *(
            ({name: value}, name)
            for name, value in {
                "audio": {"voice": "x", "format": "wav"},
                "modalities": ["text", "audio"],
                "prediction": {"type": "content"},
                "web_search_options": {"search_context_size": "low"},
                "functions": [{"name": "f"}],
                "function_call": "auto",
                "chat_template_kwargs": {"enable_thinking": False},
                "guided_json": {"type": "object"},
                "structured_outputs": {"regex": "a"},
                "ignore_eos": True,
                "min_tokens": 3,
            }.items()
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "audio": {"id": "1"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedFieldError, match="is not supported") as caught:
        chat(**body)
    assert caught.value.field == field


def test_what_changes_nothing_passes() -> None:
    chat(
        user="u",
        store=True,
        metadata={"a": "b"},
        service_tier="auto",
        modalities=["text"],
        verbosity="low",
        safety_identifier="x",
    )
    chat(audio=None, functions=[], min_tokens=0, ignore_eos=False, web_search_options={})


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "[] is too short - 'messages'"),
        (None, "[] is too short - 'messages'"),
        ([{"role": "user"}], "invalid message content type: <nil>"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "invalid message format"),
        ([{"role": "user", "content": [image("image/tiff")]}], "invalid image input"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%%"}]}],
            "invalid image input",
        ),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "invalid image input"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        *(
            (
                [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}]}],
                "invalid tool call arguments",
            )
            for arguments in ("{", "[]", '"x"', "[" * 100_000)
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_texts_that_clients_of_ollama_know(messages: Any, text: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        chat(messages=messages)
    assert str(caught.value) == text
    assert getattr(caught.value, "field", "") == ""


def test_effort_that_is_none() -> None:
    with pytest.raises(BadRequestError, match='invalid reasoning value: "huge" '):
        chat(reasoning_effort="huge")


# Completions


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        (None, [("", ())]),
        ("", [("", ())]),
        ("a", [("a", ())]),
        (["a", "b"], [("a", ()), ("b", ())]),
        ([1, 2], [("", (1, 2))]),
        ([[1], [2, 3]], [("", (1,)), ("", (2, 3))]),
    ],
    ids=str,
)
def test_prompts_of_text_and_of_tokens(prompt: Any, wanted: Any) -> None:
    requests = completions(prompt=prompt)
    assert [(request.prompt, request.tokens) for request in requests] == wanted
    assert all(request.raw == bool(request.tokens) for request in requests)


@pytest.mark.parametrize(
    "prompt", [3, {}, [1, "a"], ["a", 1], [[]], [["a"]], [-1], [2**31], [True], [1.5], [[1], "a"]], ids=str
)
def test_prompts_that_are_none(prompt: Any) -> None:
    with pytest.raises(FieldError) as caught:
        completions(prompt=prompt)
    assert caught.value.field == "prompt"


def test_a_completion_asks_for_what_it_says() -> None:
    (request,) = completions(prompt="a", suffix="b", max_tokens=0, logprobs=2, raw=True, temperature=0)
    wanted = GenerateRequest(
        model="m",
        prompt="a",
        suffix="b",
        raw=True,
        logprobs=True,
        top_logprobs=2,
        options={"temperature": 0, "num_predict": 0},
        client="c",
    )
    assert request == wanted
    several = completions(prompt=["a", "b"], n=2, best_of=2, seed=1)
    assert [(one.prompt, one.options["seed"]) for one in several] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": "a", "n": 1, "best_of": 3}, "best_of"),
        ({"prompt": "a", "echo": True, "logprobs": 0}, "echo"),
        ({"prompt": [1], "suffix": "x"}, "suffix"),
        ({"prompt": ["a"] * 100, "n": 100}, "prompt"),
        ({"prompt": "a", "use_beam_search": True}, "use_beam_search"),
    ],
    ids=str,
)
def test_completions_that_cannot_be_had(body: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        completions(**body)
    assert caught.value.field == field


# Embeddings


def test_a_request_for_vectors() -> None:
    body = {"model": "m", "dimensions": 8, "encoding_format": "base64", "keep_alive": 3, "user": "u"}
    request = embed_request(EMBED.decode(msgspec.json.encode(body)), client="c")
    assert (request.texts, request.dimensions, request.keep_alive_s, request.truncate) == ((), 8, 3, True)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ["a"]), ("", [""]), (["a", ""], ["a", ""]), ([1, 2], [(1, 2)]), ([[1], [2]], [(1,), (2,)])],
    ids=str,
)
def test_inputs_of_text_and_of_tokens(given: Any, inputs: Any) -> None:
    assert inputs_of(given) == inputs


@pytest.mark.parametrize(
    "given",
    [None, [], {}, 3, ["a", 1], [-1], [[]], [True]],
    ids=str,
)
def test_nothing_to_embed(given: Any) -> None:
    with pytest.raises(BadRequestError, match=r"^invalid input$"):
        inputs_of(given)


def test_an_encoding_that_is_none() -> None:
    with pytest.raises(BadRequestError) as caught:
        embed_request(EMBED.decode(b'{"encoding_format":"hex"}'), client="c")
    assert str(caught.value) == "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64']."


def test_too_many_lists_of_tokens() -> None:
    assert len(inputs_of([[1]] * 2048)) == 2048
    with pytest.raises(FieldError, match="2049 lists of tokens, and 2048 are taken"):
        inputs_of([[1]] * 2049)


def test_wrong_types_name_openais_request() -> None:
    with pytest.raises(
        FieldError, match=r"into Go struct field ChatCompletionRequest\.messages\.tool_calls of type \[\]openai\.SentToolCall"
    ):
        chat(messages=[{"role": "user", "tool_calls": 3}])
    with pytest.raises(BadRequestError, match=r"^EOF$"):
        CHAT.decode(b"")

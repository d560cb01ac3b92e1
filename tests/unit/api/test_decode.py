import pytest

from corral.api import decode
from corral.api.decode import RequestDecoder
from corral.api.ollama import OLLAMA
from corral.core.errors import BadRequestError
from corral.wire.admin import PruneRequest
from corral.wire.ollama import ChatRequest, CopyRequest, CreateRequest, GenerateRequest, Message, Request, ShowRequest

CHAT = RequestDecoder(ChatRequest, OLLAMA)


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequestError) as caught:
        CHAT.decode(body)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"", "missing request body", id="empty"),
        pytest.param(b" \r\n\t", "missing request body", id="blank"),
        pytest.param(b"{", "unexpected EOF", id="open object"),
        pytest.param(b'{"model"', "unexpected EOF", id="open key"),
        pytest.param(b'{"model":"x', "unexpected EOF", id="open string"),
        pytest.param(b'{"model":[1,', "unexpected EOF", id="open array"),
        pytest.param(b"x", "invalid character 'x' looking for beginning of value", id="no JSON"),
        pytest.param(b"model=x&stream=false", "invalid character 'm' looking for beginning of value", id="a form"),
        pytest.param(b"{model: 1}", "invalid character 'm' looking for beginning of object key string", id="bare key"),
        pytest.param(b"{'a':1}", "invalid character '\\'' looking for beginning of object key string", id="single quotes"),
        pytest.param(b'{"a" 1}', "invalid character '1' after object key", id="no colon"),
        pytest.param(b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair", id="no comma"),
        pytest.param(b'{"a":[1 2]}', "invalid character '2' after array element", id="no comma in array"),
        pytest.param(b'{"a":["]" 2]}', "invalid character '2' after array element", id="bracket in a string"),
        pytest.param(b'{"a":"\n"}', "invalid character '\\n' in string literal", id="line break in string"),
        pytest.param(b'{"a":"\\q"}', "invalid character 'q' in string escape code", id="bad escape"),
        pytest.param(b'{"a":NaN}', "invalid character 'N' looking for beginning of value", id="NaN"),
        pytest.param(b'{"a":-Infinity}', "invalid character '-' looking for beginning of value", id="Infinity"),
        pytest.param(b'{"options":{"seed":1e999}}', "json: cannot unmarshal number 1e999: it is out of range", id="huge float"),
        pytest.param(
            b'{"options":{"seed":' + b"9" * 5000 + b"}}", "json: cannot unmarshal number: it has too many digits", id="huge int"
        ),
        pytest.param(b'{"options":' + b"[" * 100_000, "exceeded max depth", id="deep"),
    ],
)
def test_a_body_that_is_no_json_is_refused_in_gos_words(body: bytes, text: str) -> None:
    assert refusal(body) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b'"x"', "json: cannot unmarshal string into Go value of type api.ChatRequest"),
        (b"3", "json: cannot unmarshal number into Go value of type api.ChatRequest"),
        (b"true", "json: cannot unmarshal bool into Go value of type api.ChatRequest"),
        (b'{"model":3}', "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (b'{"messages":"x"}', "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message"),
        (b'{"messages":["x"]}', "json: cannot unmarshal string into Go struct field ChatRequest.messages of type api.Message"),
        (
            b'{"messages":[{"content":["x"]}]}',
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
        ),
        (
            b'{"messages":[{"role":{}}]}',
            "json: cannot unmarshal object into Go struct field ChatRequest.messages.role of type string",
        ),
        (b'{"messages":[{"images":"x"}]}', None),
        (
            b'{"options":[]}',
            "json: cannot unmarshal array into Go struct field ChatRequest.options of type map[string]interface {}",
        ),
        (b'{"stream":"yes"}', "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        (b'{"top_logprobs":"2"}', "json: cannot unmarshal string into Go struct field ChatRequest.top_logprobs of type int"),
        (
            b'{"_debug_render_only":1}',
            "json: cannot unmarshal number into Go struct field ChatRequest._debug_render_only of type bool",
        ),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_a_value_of_a_wrong_type_is_refused_in_gos_words(body: bytes, text: str | None) -> None:
    said = refusal(body)
    assert said == (text or "json: cannot unmarshal string into Go struct field ChatRequest.messages.images of type []string")


def test_the_words_name_the_request_they_were_meant_for() -> None:
    with pytest.raises(BadRequestError, match=r"Go struct field CreateRequest\.from of type string"):
        RequestDecoder(CreateRequest, OLLAMA).decode(b'{"from":1}')
    with pytest.raises(BadRequestError, match=r"CreateRequest\.files of type string"):
        RequestDecoder(CreateRequest, OLLAMA).decode(b'{"files":{"a":1}}')
    with pytest.raises(BadRequestError, match=r"GenerateRequest\.context of type int"):
        RequestDecoder(GenerateRequest, OLLAMA).decode(b'{"context":["a"]}')


def test_null_means_absent() -> None:
    names = ("model", "messages", "stream", "format", "keep_alive", "tools", "options", "think", "truncate", "top_logprobs")
    body = ",".join(f'"{name}":null' for name in names)
    assert CHAT.decode(f"{{{body}}}".encode()) == ChatRequest()
    assert CHAT.decode(b"null") == ChatRequest()


def test_unknown_keys_are_ignored_and_the_last_of_two_wins() -> None:
    assert CHAT.decode(b'{"colour":"red","model":"a","model":"b"}').model == "b"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        pytest.param(b'{"model":"x"} and more', "x", id="text after it"),
        pytest.param(b'{"model":"\xff"}', "\ufffd", id="broken UTF-8"),
        pytest.param(b'{"model":"\\ud83d"}', "\ufffd", id="lone surrogate"),
        pytest.param(b'{"model":"\\ud83d\\udc4b\\ud83d"}', "\N{WAVING HAND SIGN}\ufffd", id="a pair and a lone one"),
        pytest.param(b'{"Model":"x"}', "x", id="capital"),
        pytest.param(b'{"MODEL":"x"}', "x", id="capitals"),
    ],
)
def test_what_go_takes_is_taken(body: bytes, model: str) -> None:
    assert CHAT.decode(body).model == model


def test_name_may_stand_for_model() -> None:
    assert RequestDecoder(ShowRequest, OLLAMA).decode(b'{"name":"x"}') == ShowRequest(name="x")


def test_a_conversation_is_read_whole() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"assistant","content":"","thinking":"t","tool_calls":'
        b'[{"id":"1","function":{"name":"f","arguments":{"b":1,"a":2}}}]},{"role":"tool","tool_name":"f","content":"x"}]}'
    )
    call, result = CHAT.decode(body).messages or []
    assert call.tool_calls
    assert call.tool_calls[0].function
    assert list(call.tool_calls[0].function.arguments or {}) == ["b", "a"]
    assert result == Message(role="tool", tool_name="f", content="x")


def test_a_long_body_that_is_no_json_gets_no_second_look() -> None:
    body = b'{"model":"x","prompt":"' + b"a" * (5 << 20) + b'" "stream":false}'
    assert refusal(body).startswith(f"invalid JSON in a body of {len(body)} bytes: ")


def test_a_long_body_of_plain_json_is_read_as_ever() -> None:
    body = b'{"model":"x","keep_alive":"' + b"a" * (5 << 20) + b'"}'
    assert CHAT.decode(body).model == "x"


@pytest.mark.parametrize(
    ("kind", "body", "wanted"),
    [
        pytest.param(CopyRequest, b'{"Source":"a","Destination":"b"}', CopyRequest(source="a", destination="b"), id="both"),
        pytest.param(CopyRequest, b'{"source":"a","Destination":"b"}', CopyRequest(source="a", destination="b"), id="one"),
        pytest.param(ShowRequest, b'{"NAME":"a"}', ShowRequest(name="a"), id="the older name"),
    ],
)
def test_names_in_another_case_are_found(kind: type[Request], body: bytes, wanted: Request) -> None:
    assert RequestDecoder(kind, OLLAMA).decode(body) == wanted


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(CopyRequest, b'{"source":"a","destination":"b"}', id="copy"),
        pytest.param(PruneRequest, b'{"dry_run":true}', id="prune"),
        pytest.param(PruneRequest, b"{}", id="prune all"),
    ],
)
def test_request_that_names_what_it_is_about_is_read_once(
    kind: type[Request], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_go_value", lambda _body: pytest.fail("it took the slow road"))
    RequestDecoder(kind, OLLAMA).decode(body)

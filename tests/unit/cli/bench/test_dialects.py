import json

import pytest

from corral.cli.bench.dialects import AnswerError, Dialect, OllamaDialect, OpenAIDialect, Told, error_text, merged
from corral.cli.bench.workloads import Ask, Message

ASK = Ask((Message("system", "Be kind."), Message("user", "Hi.")), max_tokens=9, temperature=0.5, seed=3)


def read(dialect: Dialect, *lines: bytes) -> tuple[Told, list[bool]]:
    told = Told()
    return told, [dialect.read_line(line, told) for line in lines]


def test_ollama_requests_are_those_of_its_api() -> None:
    chat, generate = OllamaDialect(), OllamaDialect("generate")
    options = {"num_predict": 9, "temperature": 0.5, "seed": 3}
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi."}]
    assert chat.path(ASK) == "/api/chat"
    assert chat.body(ASK, "m") == {"model": "m", "stream": True, "options": options, "messages": messages}
    assert generate.path(ASK) == "/api/generate"
    assert generate.body(ASK, "m") == {"model": "m", "stream": True, "options": options, "prompt": "Hi.", "system": "Be kind."}


def test_openai_requests_ask_for_usage_where_the_server_takes_it() -> None:
    body = OpenAIDialect().body(ASK, "m")
    assert body["stream_options"] == {"include_usage": True}
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (9, 0.5, 3)
    assert "stream_options" not in OpenAIDialect(asks_usage=False).body(ASK, "m")
    plain = OpenAIDialect("generate")
    assert (plain.path(ASK), plain.body(ASK, "m")["prompt"]) == ("/completions", "Be kind.\n\nHi.")


def test_a_schema_goes_where_each_dialect_has_it() -> None:
    ask = Ask(ASK.messages, schema={"type": "object"})
    assert OllamaDialect().body(ask, "m")["format"] == {"type": "object"}
    assert OpenAIDialect().body(ask, "m")["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_ollama_lines_tell_text_thoughts_calls_and_counts() -> None:
    told, heard = read(
        OllamaDialect(),
        b'{"message": {"role": "assistant", "content": "", "thinking": "Hm"}, "done": false}',
        b'{"message": {"content": "Hello"}, "done": false}',
        b'{"message": {"content": "", "tool_calls": [{}]}, "done": false}',
        b"",
        b'{"message": {"content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 9, '
        b'"prompt_eval_cached_count": 4, "eval_count": 3}',
    )
    assert heard == [True, True, True, False, False]
    assert (told.text, told.is_done, told.finish) == ("Hello", True, "stop")
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (9, 4, 3)


def sse(item: object, *, space: bytes = b" ") -> bytes:
    return b"data:" + space + json.dumps(item).encode()


@pytest.mark.parametrize("space", [b" ", b""], ids=["space", "no-space"])
@pytest.mark.parametrize("end", [b"", b"\r"], ids=["lf", "crlf"])
def test_events_are_read_with_and_without_a_space(space: bytes, end: bytes) -> None:
    lines = [
        b": a comment",
        b"event: message",
        sse({"choices": [{"delta": {"role": "assistant", "content": None}}]}, space=space),
        sse({"choices": [{"delta": {"reasoning_content": "Hm"}}], "usage": None}, space=space),
        sse({"choices": [{"delta": {"content": "Hello"}}]}, space=space),
        b"",
        sse({"choices": [{"delta": {}, "finish_reason": "length"}]}, space=space),
        sse(
            {
                "choices": [],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6}},
            },
            space=space,
        ),
        b"data:" + space + b"[DONE]",
    ]
    told, heard = read(OpenAIDialect(), *(line + end for line in lines))
    assert [at for at, was in enumerate(heard) if was] == [3, 4]
    assert (told.text, told.is_done, told.finish) == ("Hello", True, "length")
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (7, 6, 2)


def test_counts_that_are_not_told_are_none() -> None:
    told, _ = read(OpenAIDialect(), sse({"choices": [{"delta": {"content": "x"}}]}), b"data: [DONE]")
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (None, None, None)


@pytest.mark.parametrize(
    ("dialect", "line", "kind"),
    [
        (OllamaDialect(), b'{"error": "the worker died"}', "error in mid-stream"),
        (OllamaDialect(), b"<html>", "not understood"),
        (OllamaDialect(), b"[]", "not understood"),
        (OpenAIDialect(), b'data: {"error": {"message": "out of memory", "code": 500}}', "error in mid-stream"),
        (OpenAIDialect(), b'error: {"message": "slot unavailable"}', "error in mid-stream"),
        (OpenAIDialect(), b"data: {oops", "not understood"),
        (OpenAIDialect(), b'{"choices": [{"message": {"content": "whole"}}]}', "not understood"),
    ],
)
def test_what_is_no_answer_is_a_failure(dialect: Dialect, line: bytes, kind: str) -> None:
    with pytest.raises(AnswerError) as caught:
        dialect.read_line(line, Told())
    assert caught.value.kind == kind
    assert caught.value.text


@pytest.mark.parametrize(
    "line",
    [
        b'{"choices": "x"}',
        b'{"choices": [1]}',
        b'{"choices": [{"delta": 5}]}',
        b'{"choices": [{"delta": {"content": ["x"]}}], "usage": [1]}',
        b'{"usage": {"prompt_tokens": "9", "completion_tokens": -1, "prompt_tokens_details": 3}}',
    ],
)
def test_fields_of_other_types_are_no_text_and_no_counts(line: bytes) -> None:
    told, heard = read(OpenAIDialect(), b"data:" + line)
    assert heard == [False]
    assert (told.text, told.prompt_tokens, told.output_tokens) == ("", None, None)


def test_vectors_are_counted() -> None:
    told = Told()
    assert OllamaDialect().count_vectors(b'{"embeddings": [[1], [2]], "prompt_eval_count": 5}', told) == 2
    assert OpenAIDialect().count_vectors(b'{"data": [{}], "usage": {"prompt_tokens": 5}}', Told()) == 1
    assert told.prompt_tokens == 5


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no such model"}', "no such model"),
        (b'{"error": {"message": "bad", "type": "x"}}', "bad"),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"", ""),
        (b'{"detail": 1}', '{"detail": 1}'),
    ],
)
def test_refusals_are_read_in_any_dialect(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_more_fields_are_merged_into_objects() -> None:
    body = {"options": {"seed": 1}, "model": "m"}
    assert merged(body, {"options": {"num_ctx": 9}, "think": False}) == {
        "options": {"seed": 1, "num_ctx": 9},
        "model": "m",
        "think": False,
    }

"""The two dialects: how a request is written, and what the lines of its answer tell. No network.

Reading is forgiving about what servers leave out, and strict about what they say: a line that cannot be read, an error in the
middle of a stream, and a stream that ends before it says that it is over are failures.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from corral.cli.bench.workloads import Ask, Json

Api: TypeAlias = Literal["ollama", "openai"]
Endpoint: TypeAlias = Literal["chat", "generate"]
_SHOWN: Final = 200  # letters of what a server said, in an error


class AnswerError(Exception):
    """What the server sent is no good answer. `kind` is one of the report's kinds of errors."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


@dataclass(slots=True)
class Told:
    """What an answer has told so far. Counts are None where the server does not give them."""

    texts: list[str] = field(default_factory=list)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    finish: str = ""
    is_done: bool = False

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Dialect(Protocol):
    def path(self, ask: Ask) -> str:
        """Where the request goes, behind the server's URL."""

    def body(self, ask: Ask, model: str) -> Json: ...

    def read_line(self, line: bytes, told: Told) -> bool:
        """Takes a line of a stream; true where it brought something that was generated. Raises AnswerError."""

    def count_vectors(self, body: bytes, told: Told) -> int:
        """Vectors in an answer to a request for embeddings. Raises AnswerError."""


def _parsed(data: bytes) -> Json:
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as exc:
        raise AnswerError("not understood", f"no JSON: {_shown(data)}") from exc
    if not isinstance(value, dict):
        raise AnswerError("not understood", f"no JSON object: {_shown(data)}")
    return value


def _shown(data: bytes) -> str:
    return data[:_SHOWN].decode(errors="replace").strip()


def error_text(data: bytes) -> str:
    """What a refusal says, in either dialect or none."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return _shown(data)
    return _error_in(value) or _shown(data)


def _error_in(value: object) -> str:
    """The text of an error, {"error": "…"} or {"error": {"message": "…"}}; empty where there is none."""
    error = value.get("error") if isinstance(value, dict) else None
    text = error.get("message") or error.get("type") if isinstance(error, dict) else error
    return str(text)[:_SHOWN] if text else ""


def _object(value: Json, name: str) -> Json:
    """A field that is an object; {} where it is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _items(value: Json, name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []


def _string(value: Json, *names: str) -> str:
    """The first of these fields that has a text in it."""
    return next((found for name in names if isinstance(found := value.get(name), str) and found), "")


def _count(value: Json, name: str) -> int | None:
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _messages(ask: Ask) -> list[Json]:
    return [{"role": message.role, "content": message.content} for message in ask.messages]


def _said_by(ask: Ask, role: str) -> str:
    return "\n\n".join(message.content for message in ask.messages if message.role == role)


@dataclass(frozen=True, slots=True)
class OllamaDialect:
    """/api/chat or /api/generate, a JSON object a line; and /api/embed."""

    endpoint: Endpoint = "chat"

    def path(self, ask: Ask) -> str:
        return "/api/embed" if ask.inputs else f"/api/{self.endpoint}"

    def body(self, ask: Ask, model: str) -> Json:
        if ask.inputs:
            return {"model": model, "input": ask.inputs}
        options = {"num_predict": ask.max_tokens, "temperature": ask.temperature, "seed": ask.seed}
        body: Json = {"model": model, "stream": True, "options": options}
        if self.endpoint == "chat":
            body["messages"] = _messages(ask)
        else:
            body["prompt"] = _said_by(ask, "user")
            if system := _said_by(ask, "system"):
                body["system"] = system
        return body if ask.schema is None else body | {"format": ask.schema}

    def read_line(self, line: bytes, told: Told) -> bool:
        if not line.strip():
            return False
        item = _parsed(line)
        if error := _error_in(item):
            raise AnswerError("error in mid-stream", error)
        message = item if self.endpoint == "generate" else _object(item, "message")
        text = _string(message, "response" if self.endpoint == "generate" else "content")
        if text:
            told.texts.append(text)
        if item.get("done"):
            told.is_done = True
            told.finish = _string(item, "done_reason")
            told.prompt_tokens = _count(item, "prompt_eval_count")
            told.cached_tokens = _count(item, "prompt_eval_cached_count")
            told.output_tokens = _count(item, "eval_count")
        return bool(text or _string(message, "thinking") or _items(message, "tool_calls"))

    def count_vectors(self, body: bytes, told: Told) -> int:
        item = _parsed(body)
        told.prompt_tokens = _count(item, "prompt_eval_count")
        return len(_items(item, "embeddings"))


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """/v1/chat/completions or /v1/completions, server-sent events; and /v1/embeddings.

    `asks_usage`: wants token counts at the end of a stream, which some servers refuse to be asked.
    """

    endpoint: Endpoint = "chat"
    asks_usage: bool = True

    def path(self, ask: Ask) -> str:
        if ask.inputs:
            return "/embeddings"
        return "/chat/completions" if self.endpoint == "chat" else "/completions"

    def body(self, ask: Ask, model: str) -> Json:
        if ask.inputs:
            return {"model": model, "input": ask.inputs}
        body: Json = {
            "model": model,
            "stream": True,
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "seed": ask.seed,
        }
        if self.asks_usage:
            body["stream_options"] = {"include_usage": True}
        if self.endpoint == "chat":
            body["messages"] = _messages(ask)
        else:
            body["prompt"] = "\n\n".join(message.content for message in ask.messages)
        if ask.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": ask.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def read_line(self, line: bytes, told: Told) -> bool:
        """Every `data:` is an event: no server spreads one over lines, and some leave out the blank lines between them."""
        name, colon, value = line.rstrip(b"\r").partition(b":")
        if name == b"error" and colon:
            raise AnswerError("error in mid-stream", error_text(value.strip()))
        if name != b"data" or not colon or not (value := value.strip()):
            if line[:1] == b"{":
                raise AnswerError("not understood", f"an answer that is no stream of events: {_shown(line)}")
            return False
        if value == b"[DONE]":
            told.is_done = True
            return False
        return self._read_event(_parsed(value), told)

    def _read_event(self, item: Json, told: Told) -> bool:
        if error := _error_in(item):
            raise AnswerError("error in mid-stream", error)
        self._read_usage(item, told)
        choices = _items(item, "choices")
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        delta = _object(choice, "delta") if self.endpoint == "chat" else choice
        text = _string(delta, "content" if self.endpoint == "chat" else "text")
        if text:
            told.texts.append(text)
        if finish := _string(choice, "finish_reason"):
            told.is_done, told.finish = True, finish
        return bool(text or _string(delta, "reasoning_content", "reasoning") or _items(delta, "tool_calls"))

    def _read_usage(self, item: Json, told: Told) -> None:
        """The last counts hold: some servers give them with every event."""
        usage = _object(item, "usage")
        if not usage:
            return
        told.prompt_tokens = _count(usage, "prompt_tokens")
        told.output_tokens = _count(usage, "completion_tokens")
        told.cached_tokens = _count(_object(usage, "prompt_tokens_details"), "cached_tokens")

    def count_vectors(self, body: bytes, told: Told) -> int:
        item = _parsed(body)
        told.prompt_tokens = _count(_object(item, "usage"), "prompt_tokens")
        return len(_items(item, "data"))


def dialect_of(api: Api, endpoint: Endpoint) -> Dialect:
    return OllamaDialect(endpoint) if api == "ollama" else OpenAIDialect(endpoint)


def merged(body: Json, more: Json) -> Json:
    """The body with more fields; objects are merged, everything else is replaced."""
    both = dict(body)
    for name, value in more.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both

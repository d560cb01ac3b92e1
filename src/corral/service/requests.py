"""What a client wants and what it gets, in Corral's own words: the same for every dialect.

An API handler turns bytes into one of these requests, and the events that come back into bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from corral.core.types import FinishReason, Message, TokenLogprob, ToolCall

Think = bool | str | None  # None: the model's default; a word is a level: "low", "medium", "high", "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether the answer calls tools: not at all, as the model sees fit, or in any case; with a name, that one."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str = ""  # only with "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What chat and generate have in common."""

    model: str  # as the client spelled it
    options: Mapping[str, Any] = field(default_factory=dict)  # as sent; checked by core.options
    keep_alive_s: float | None = None  # None: the server's default
    think: Think = None
    format: Any = None  # None: free text; "json" or a JSON Schema object
    grammar: str = ""  # GBNF that the answer is to meet; of format, grammar, regex and choice only one may be given
    regex: str = ""
    choice: tuple[str, ...] = ()  # the answer is to be one of these
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = False
    needs_start: bool = False  # the first event of the answer is to be Started
    may_skip_thinking: bool = False  # a model that cannot think answers without, and is not refused
    call_parts: bool = False  # calls are wanted while they are written too; one that is cut short is told in its parts alone
    client: str = ""  # who asks: clients share evenly what there is
    priority: int = 0  # lower goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(InferenceRequest):
    """No messages at all: load the model, or with keep_alive_s 0 unload it."""

    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True  # False: one call an answer at most
    continues: bool = False  # a last message of the assistant is the beginning of its answer, not a turn that is over


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(InferenceRequest):
    """An empty prompt: load the model, or with keep_alive_s 0 unload it."""

    prompt: str = ""
    tokens: tuple[int, ...] = ()  # the prompt, where it comes as tokens: raw, and without a text
    suffix: str = ""
    system: str | None = None  # None: the model's own
    template: str | None = None  # None: the model's own
    context: tuple[int, ...] = ()
    raw: bool = False
    images: tuple[bytes, ...] = ()

    @property
    def has_prompt(self) -> bool:
        return bool(self.prompt or self.tokens)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The only event of a request without a prompt."""

    reason: Literal["load", "unload"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The only event of a request with debug_render_only."""

    prompt: str
    image_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """What was left out of an over-long conversation."""

    prompt_tokens_total: int  # tokens of the whole conversation as it was sent
    dropped_messages: int = 0  # 0 where tokens were cut: of a conversation that came as such


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event of an answer that was asked for it: the prompt has been read."""

    prompt_tokens: int
    cached_tokens: int
    truncation: Truncation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPart:
    """A piece of a call that is still being written. Parts of two calls never mix.

    The complete call comes after its parts, with their index and id, and its arguments are what the parts' texts are together.
    A call that never comes was cut short by the answer's end, or was none after all: then its text follows as content.
    """

    index: int
    call_id: str
    name: str = ""  # in the first part alone
    text: str = ""  # of the arguments, as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of the answer."""

    content: str = ""
    thinking: str = ""
    call_parts: tuple[CallPart, ...] = ()  # only of a request that asks for them
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()  # of the tokens drawn since the last piece
    truncation: Truncation | None = None  # told by the answer's first piece, and by its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The last event of every answer."""

    reason: FinishReason
    stop_text: str = ""  # the stop string that ended it, if one did
    total_ns: int  # from the request's arrival
    load_ns: int  # waiting for the model, queueing included
    prompt_tokens: int
    cached_tokens: int
    prompt_ns: int
    eval_tokens: int
    thought_tokens: int = 0  # those of them that the thought took
    eval_ns: int
    context: tuple[int, ...] | None = None  # generate only: tokens of prompt and answer
    truncation: Truncation | None = None


Event = Loaded | Rendered | Started | Delta | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A line of progress of a pull, push or create. `total` 0: this line counts nothing."""

    status: str
    digest: str = ""  # "sha256:…", or ""
    kind: str = ""  # "quantize" for that work
    total: int = 0  # bytes
    completed: int = 0  # bytes

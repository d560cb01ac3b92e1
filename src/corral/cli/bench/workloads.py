"""What is asked of a server: kinds of load that people have, each a row of `KINDS`. No dialect, no clock, no network.

Requests are drawn by a key, so that two servers get the same ones in a round and other ones in the next round.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from corral.cli.bench.texts import drawing, filler, inventory, pick, question

Json: TypeAlias = dict[str, Any]
Seen: TypeAlias = Literal["once", "never"]
STREAMS: Final = "streams"
LONG_PROMPT: Final = "long prompt"
_SEEDS: Final = 2**31
_TEXT: Final = {"type": "string", "minLength": 4, "maxLength": 24}
SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "city": _TEXT,
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "is_member": {"type": "boolean"},
        "plan": {"type": "string", "enum": ["free", "monthly", "yearly"]},
        "orders": {
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {"item": _TEXT, "count": {"type": "integer", "minimum": 1, "maximum": 99}},
                "required": ["item", "count"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "city", "age", "is_member", "plan", "orders"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. With `inputs` it is for embeddings, and nothing but they counts."""

    messages: tuple[Message, ...] = ()
    max_tokens: int = 0
    temperature: float = 0.0
    seed: int = 0
    schema: Json | None = None
    inputs: tuple[str, ...] = ()
    group: str = ""  # requests whose figures are told apart in the report
    conversation: int = -1  # the one it is a turn of


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be said of a workload's requests."""

    max_tokens: int = 128
    prompt_tokens: tuple[int, ...] = ()  # about; how many a prompt really has, the server tells
    temperature: float = 0.8
    schema: Json = field(default_factory=lambda: SCHEMA)
    texts: int = 1  # of a request for embeddings
    seen: Seen = "once"
    conversations: int = 12
    turns: int = 4


Draw: TypeAlias = Callable[[Shape, str, int], Ask]


@dataclass(frozen=True, slots=True)
class Kind:
    """A workload: how it is by itself, and how the request of a number is drawn."""

    summary: str
    draw: Draw
    shape: Shape
    before: Draw | None = None  # a request that is sent once before the measured ones
    is_open: bool = True  # can be sent at a rate of arrivals
    per_client: int = 4  # requests of each client, unless told otherwise
    uses: tuple[str, ...] = ("prompt_tokens",)  # what of its shape can be set, beside the answers' length and temperature
    mixes_lengths: bool = False  # takes several numbers of prompt tokens
    generates: bool = True


def _ask(shape: Shape, key: str, index: int, *messages: Message, group: str = "", schema: Json | None = None) -> Ask:
    seed = drawing(key, index, "seed").randrange(_SEEDS)
    return Ask(messages, shape.max_tokens, shape.temperature, seed, schema, group=group)


def _user(text: str) -> Message:
    return Message("user", text)


def _chat(shape: Shape, key: str, index: int) -> Ask:
    draw = drawing(key, index)
    text = question(draw)
    if shape.prompt_tokens:
        text = f"{text}\n\n{filler(draw, pick(draw, shape.prompt_tokens))}"
    return _ask(shape, key, index, _user(text))


def _prefix(shape: Shape, key: str, index: int) -> Ask:
    system = Message("system", filler(drawing(key, "system"), shape.prompt_tokens[0]))
    return _ask(shape, key, index, system, _user(question(drawing(key, index))))


def _prefix_before(shape: Shape, key: str, _index: int) -> Ask:
    first = _prefix(shape, key, 0)
    return replace(first, messages=(first.messages[0], _user(question(drawing(key, "before")))), max_tokens=1)


def _turn(shape: Shape, key: str, index: int) -> Ask:
    """The first turn of a conversation, which brings a text to talk about."""
    draw = drawing(key, index)
    return _ask(shape, key, index, _user(f"{question(draw)}\n\n{filler(draw, shape.prompt_tokens[0])}"), group="first turns")


def _json(shape: Shape, key: str, index: int) -> Ask:
    text = f"{question(drawing(key, index)).partition(' ')[0]} Make up a customer of a small shop. Answer in JSON."
    return _ask(shape, key, index, _user(text), schema=shape.schema)


def _edit(shape: Shape, key: str, index: int) -> Ask:
    text, old, new = inventory(drawing(key, index), shape.prompt_tokens[0])
    task = f"Repeat this list line by line, but write {new} in place of {old}. Answer with the list alone."
    return _ask(shape, key, index, _user(f"{task}\n\n{text}"))


def _mixed(shape: Shape, key: str, index: int) -> Ask:
    """All lengths equally often, whatever the number of requests: each run through them is in an order of its own."""
    turn, place = divmod(index, len(shape.prompt_tokens))
    order = drawing(key, "order", turn).sample(shape.prompt_tokens, len(shape.prompt_tokens))
    draw = drawing(key, index)
    text = f"{question(draw)}\n\n{filler(draw, order[place])}"
    return _ask(shape, key, index, _user(text), group=f"{order[place]} tokens")


def _stream(shape: Shape, key: str, index: int) -> Ask:
    return replace(_chat(replace(shape, prompt_tokens=()), key, index), group=STREAMS)


def _embed(shape: Shape, key: str, index: int) -> Ask:
    draw = drawing(key, index)
    return Ask(inputs=tuple(filler(draw, pick(draw, shape.prompt_tokens)) for _ in range(shape.texts)))


KINDS: Final[Mapping[str, Kind]] = {
    "chat": Kind("free text: each request a question of its own", _chat, Shape(), mixes_lengths=True),
    "prefix": Kind(
        "questions behind a common system prompt",
        _prefix,
        Shape(max_tokens=32, prompt_tokens=(1300,)),
        before=_prefix_before,
        per_client=1,
        uses=("prompt_tokens", "seen"),
    ),
    "turns": Kind(
        "conversations of several turns, in random order",
        _turn,
        Shape(max_tokens=32, prompt_tokens=(200,)),
        is_open=False,
        uses=("prompt_tokens", "conversations", "turns"),
    ),
    "json": Kind("an object by a JSON Schema", _json, Shape(max_tokens=256), uses=("schema",)),
    "edit": Kind("a list repeated with small changes", _edit, Shape(max_tokens=256, prompt_tokens=(200,), temperature=0.0)),
    "mixed": Kind(
        "prompts of several lengths",
        _mixed,
        Shape(max_tokens=64, prompt_tokens=(16, 128, 512, 1536)),
        mixes_lengths=True,
    ),
    "long": Kind(
        "a long prompt that arrives while each client reads a stream",
        _stream,
        Shape(prompt_tokens=(3000,)),
        is_open=False,
        per_client=1,
    ),
    "embed": Kind(
        "embeddings of several texts in one request",
        _embed,
        Shape(prompt_tokens=(30,), texts=32),
        uses=("prompt_tokens", "texts"),
        mixes_lengths=True,
        generates=False,
    ),
}


def long_prompt(shape: Shape, key: str, index: int) -> Ask:
    """What arrives while streams run; its answer is short."""
    draw = drawing(key, LONG_PROMPT, index)
    text = f"{question(draw)}\n\n{filler(draw, shape.prompt_tokens[0])}"
    return replace(_ask(shape, key, index, _user(text), group=LONG_PROMPT), max_tokens=min(16, shape.max_tokens))

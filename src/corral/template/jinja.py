"""Jinja chat templates as Hugging Face runs them, in jinja2's immutable sandbox, which is imported on use.

Source: transformers, utils/chat_template_utils.py (what a template may rely on), written anew.
"""

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template.chat import Conversation

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_CHARS: Final = 1 << 20
_TOOL_NAMES: Final = frozenset({"tools", "functions"})
_THINKING_NAMES: Final = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
_THINKING_MARKS: Final = re.compile(r"reasoning_content|</?think>")


class JinjaTemplate:
    """A compiled Jinja template with the texts of its model's special tokens. Made by `compile_jinja`."""

    kind: Literal["jinja"] = "jinja"
    has_suffix = False  # none asks for what goes between

    def __init__(self, source: str, *, bos_token: str, eos_token: str) -> None:
        self.source = source
        self._template, self._names = _compiled(source)
        self.has_tools = bool(self._names & _TOOL_NAMES)
        self.has_thinking = bool(self._names & _THINKING_NAMES or _THINKING_MARKS.search(source))
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, conversation: Conversation) -> str:
        tools = [dict(tool) for tool in conversation.tools]
        names: dict[str, Any] = {
            "messages": [_message(message) for message in conversation.messages],
            "tools": tools or None,
            "add_generation_prompt": True,
            **self._tokens,
            **_think(conversation.think),
        }
        if "functions" in self._names:  # Firefunction's way to ask for tools
            names |= {"functions": _tojson(tools, indent=4), "datetime": _strftime_now("%B %d %Y %H:%M:%S GMT")}
        try:
            return self._run(names)
        except BadRequestError:
            if tools:
                raise
        return self._run(names | {"tools": []})  # made for tools alone: it runs over them unasked

    def _run(self, names: dict[str, Any]) -> str:
        """The template's text. Besides its own errors any may come from what it does with the values it is given."""
        from jinja2 import TemplateError

        try:
            return self._template.render(names)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as exc:
            raise BadRequestError(f"chat template: {exc}") from exc


@lru_cache(maxsize=64)
def compile_jinja(source: str, *, bos_token: str = "", eos_token: str = "") -> JinjaTemplate:
    """The template, ready to render; compiled once. Raises BadRequestError where its syntax is wrong."""
    return JinjaTemplate(source, bos_token=bos_token, eos_token=eos_token)


def _compiled(source: str) -> "tuple[Template, frozenset[str]]":
    """The template, and the names that it expects to be given."""
    from jinja2 import TemplateError
    from jinja2.meta import find_undeclared_variables

    if len(source) > _MAX_CHARS:
        raise BadRequestError(f"chat template: {len(source)} characters are too many; at most {_MAX_CHARS} are read")
    try:
        tree = _environment().parse(source)
        return _environment().from_string(source), frozenset(find_undeclared_variables(tree))
    except (TemplateError, RecursionError) as exc:
        line = getattr(exc, "lineno", 0)
        raise BadRequestError(f"chat template: line {line}: {exc}" if line else f"chat template: {exc}") from exc


@lru_cache(maxsize=1)
def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_tag()]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _generation_tag() -> Any:
    """The `{% generation %}` block, which marks what a model said; it changes nothing in the text."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: keys in the order they came, no HTML escapes. The parameters are those that templates use."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _think(think: bool | str | None) -> dict[str, Any]:
    """What templates ask for: Qwen's `enable_thinking`, DeepSeek's `thinking`, gpt-oss's `reasoning_effort`."""
    if think is None:
        return {}
    names: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    return names | {"reasoning_effort": think} if isinstance(think, str) else names


def _message(message: Message) -> dict[str, Any]:
    """A message as OpenAI's chat API spells it, which is what templates are written for."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        out |= {"reasoning_content": message.thinking, "thinking": message.thinking}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_name:
        out["name"] = message.tool_name
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out

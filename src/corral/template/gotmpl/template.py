"""Go chat templates as Ollama runs them, on the library gotpl, which is imported when the first one is compiled.

A template that uses `.Messages` gets the whole conversation at once. An older one, which knows `.System`, `.Prompt` and
`.Response` alone, is run once for each turn, and for the last turn only up to `.Response`.
Source: ollama@v0.32 template/template.go, Parse and Execute.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template.chat import Conversation
from corral.template.gotmpl import scan, values

if TYPE_CHECKING:
    from gotpl import Environment, Template

_MAX_CHARS: Final = 1 << 20
_MAX_OUTPUT_CHARS: Final = 64 << 20
_MAX_STEPS: Final = 500_000
_MAX_DEPTH: Final = 100
_FUNCTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "json": values.to_json,
    "currentDate": values.current_date,
    "yesterdayDate": values.yesterday_date,
    "toTypeScriptType": values.to_typescript_type,
}


class GoTemplate:
    """A compiled Go template. Made by `compile_go`."""

    kind: Literal["go"] = "go"

    def __init__(self, source: str) -> None:
        self._whole = _compiled(source)
        self.source = source
        used = scan.fields(source)
        self.has_tools = "Tools" in used
        self.has_suffix = "Suffix" in used
        self.has_thinking = bool(used & {"Thinking", "Think", "ThinkLevel", "IsThinkSet"})
        self._last: Template | None = None
        if "Messages" not in used:
            text = source if "Response" in used else source + "{{ .Response }}"
            self._whole = _compiled(text)
            self._last = _compiled(scan.cut_at_response(text))

    def render(self, conversation: Conversation) -> str:
        system, messages = values.collated(conversation.messages)
        base = _NOTHING | _think(conversation)
        if conversation.suffix:
            prompt = messages[-1].content if messages else ""
            return _run(self._whole, {**base, "System": system, "Prompt": prompt, "Suffix": conversation.suffix})
        if self._last is not None:
            return self._turn_by_turn(messages, base, self._last)
        views = [values.message_view(message) for message in messages]
        return _run(self._whole, {**base, "System": system, "Messages": views, "Tools": values.tool_views(conversation.tools)})

    def _turn_by_turn(self, messages: list[Message], base: Mapping[str, Any], last: "Template") -> str:
        """A turn is full, and is rendered, when a message comes that belongs before what it already holds."""
        out: list[str] = []
        turn: dict[str, str] = {}
        for message in messages:
            if message.role not in _SLOTS:
                continue
            slot, later = _SLOTS[message.role]
            if any(turn.get(name) for name in later):
                out.append(_run(self._whole, {**base, **turn}))
                turn = {}
            turn[slot] = message.content
        out.append(_run(last, {**base, **turn}))
        return "".join(out)


# role -> where its text goes in a turn, and what comes after that in one
_SLOTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "system": ("System", ("Prompt", "Response")),
    "user": ("Prompt", ("Response",)),
    "assistant": ("Response", ()),
}
_NOTHING: Final[dict[str, Any]] = {"System": "", "Prompt": "", "Response": "", "Suffix": "", "Messages": [], "Tools": []}


@lru_cache(maxsize=128)
def compile_go(source: str) -> GoTemplate:
    """The template, ready to render; compiled once. Raises BadRequestError in Go's words where its syntax is wrong."""
    return GoTemplate(source)


def _think(conversation: Conversation) -> dict[str, Any]:
    think = conversation.think
    return {
        "Think": bool(think),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from gotpl import Environment, ExecutionBudget, SandboxPolicy

    budget = ExecutionBudget(
        max_output_chars=_MAX_OUTPUT_CHARS,
        max_iterations=_MAX_STEPS,
        max_template_depth=_MAX_DEPTH,
        max_function_calls=_MAX_STEPS,
    )
    sandbox = SandboxPolicy(
        allow_functions=_FUNCTIONS, allow_custom_lookup=True, max_template_chars=_MAX_CHARS, default_budget=budget
    )
    return Environment(functions=_FUNCTIONS, missing_key="zero", sandbox=sandbox)


def _compiled(source: str) -> "Template":
    from gotpl import TemplateError, TemplateSyntaxError

    try:
        return _environment().from_string(source, name="")
    except TemplateSyntaxError as exc:
        what = str(exc).removeprefix(f"template:{exc.line}:{exc.column}: ").replace("'", '"')
        raise BadRequestError(f"template: :{exc.line}: {what}") from exc
    except (TemplateError, RecursionError) as exc:
        raise BadRequestError(f"template: {exc}") from exc


def _run(template: "Template", data: Mapping[str, Any]) -> str:
    from gotpl import TemplateError

    try:
        return template.render(data)
    except (TemplateError, RecursionError) as exc:
        raise BadRequestError(str(exc)) from exc

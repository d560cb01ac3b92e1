"""Go chat templates as Ollama runs them.

A template that uses `.Messages` gets the whole conversation at once. An older one, which knows `.System`, `.Prompt` and
`.Response` alone, is run once for each turn, and for the last turn only up to `.Response`.
Rendering is bounded in work and in text, whatever the template is: see budget.py.
Source: ollama@v0.32 template/template.go, Parse and Execute.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template.cache import SourceCache
from corral.template.conversation import Conversation
from corral.template.gotmpl import analysis, values
from corral.template.gotmpl.compile import CompiledTree
from corral.template.gotmpl.functions import FUNCTIONS
from corral.template.gotmpl.lexer import quoted
from corral.template.gotmpl.nodes import Tree
from corral.template.gotmpl.parser import GoSyntaxError, parse
from corral.template.gotmpl.running import GoExecutionError, Run

MAX_CHARS: Final = 64 << 10
_MAX_STEPS: Final = 3_000_000  # two seconds or so
_MAX_MADE_CHARS: Final = 32 << 20
_QUICK_STEPS: Final = 60_000  # 30 milliseconds or so
_QUICK_MADE_CHARS: Final = 4 << 20


class GoTemplate:
    """A compiled Go template. Made by `compile_go`."""

    kind: Literal["go"] = "go"
    call_id_chars: Final = 0

    def __init__(self, source: str) -> None:
        self.source = source
        tree = _parsed(source)
        used = analysis.names(tree)
        self.has_tools = "Tools" in used
        self.has_suffix = "Suffix" in used
        self.has_thinking = bool(used & {"Thinking", "Think", "ThinkLevel", "IsThinkSet"})
        self._last: _Program | None = None
        if "Messages" not in used:
            tree = tree if "Response" in used else analysis.with_response(tree)
            self._last = _Program(source, analysis.cut_at_response(tree))
        self._whole = _Program(source, tree)

    def render(self, conversation: Conversation, *, quick: bool = False, processes: object = None) -> str:
        run = Run(steps=_QUICK_STEPS, chars=_QUICK_MADE_CHARS) if quick else Run(steps=_MAX_STEPS, chars=_MAX_MADE_CHARS)
        system, messages = values.collated(conversation.messages)
        base = _NOTHING | _think(conversation)
        if conversation.suffix:
            prompt = messages[-1].content if messages else ""
            self._whole.execute(run, {**base, "System": system, "Prompt": prompt, "Suffix": conversation.suffix})
        elif self._last is not None:
            self._turn_by_turn(run, messages, base, self._last)
        else:
            views = [values.message_view(message) for message in messages]
            tools = values.tool_views(conversation.tools)
            self._whole.execute(run, {**base, "System": system, "Messages": views, "Tools": tools})
        return "".join(run.out)

    def _turn_by_turn(self, run: Run, messages: list[Message], base: Mapping[str, Any], last: "_Program") -> None:
        """A turn is full, and is rendered, when a message comes that belongs before what it already holds."""
        turn: dict[str, str] = {}
        for message in messages:
            if message.role not in _SLOTS:
                continue
            slot, later = _SLOTS[message.role]
            if any(turn.get(name) for name in later):
                self._whole.execute(run, {**base, **turn})
                turn = {}
            turn[slot] = message.content
        last.execute(run, {**base, **turn})


# role -> where its text goes in a turn, and what comes after that in one
_SLOTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "system": ("System", ("Prompt", "Response")),
    "user": ("Prompt", ("Response",)),
    "assistant": ("Response", ()),
}
_NOTHING: Final[dict[str, Any]] = {"System": "", "Prompt": "", "Response": "", "Suffix": "", "Messages": [], "Tools": []}


class _Program:
    """A tree that can be run, and the source that its complaints point to."""

    def __init__(self, source: str, tree: Tree) -> None:
        self._source = source
        try:
            compiled = CompiledTree(tree)
        except RecursionError as exc:
            raise _too_deep() from exc
        self._main, self._frame_size = compiled.main, compiled.frame_size

    def execute(self, run: Run, data: Mapping[str, Any]) -> None:
        """Writes the template's text for this data to the run."""
        run.depth = 0
        try:
            self._main(run, [data, *[None] * self._frame_size], data)
        except GoExecutionError as exc:
            raise BadRequestError(self._located(exc)) from exc
        except RecursionError as exc:
            raise _too_deep() from exc

    def _located(self, complaint: GoExecutionError) -> str:
        before = self._source[: complaint.node.start]
        column = len(before[before.rfind("\n") + 1 :].encode())
        where = f"template: :{before.count(chr(10)) + 1}:{column}: executing {quoted(complaint.template)}"
        return f"{where} at <{complaint.node}>: {complaint.message}"


def _think(conversation: Conversation) -> dict[str, Any]:
    think = conversation.think
    return {
        "Think": bool(think),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }


def _parsed(source: str) -> Tree:
    if len(source) > MAX_CHARS:
        raise BadRequestError(f"template: {len(source)} characters are too many; at most {MAX_CHARS} are read")
    try:
        return parse(source, FUNCTIONS)
    except GoSyntaxError as exc:
        raise BadRequestError(str(exc)) from exc
    except RecursionError as exc:
        raise _too_deep() from exc


def _too_deep() -> BadRequestError:
    return BadRequestError("template: it is nested too deeply")


_compiled: Final = SourceCache(GoTemplate)


def compile_go(source: str) -> GoTemplate:
    """The template, ready to render; compiled once. Raises BadRequestError in Go's words where its syntax is wrong."""
    return _compiled.get(source)

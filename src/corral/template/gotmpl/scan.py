"""Looks at a Go template's actions without running them: which fields it uses, and where it says `.Response`.

The template has been compiled before, so its syntax is right; strings, comments and trim marks are stepped over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# what an action may hold besides plain words: strings of three kinds, and comments
_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/', re.DOTALL)
_CLOSE: Final = "}}"
_OPEN: Final = "{{"
_FIELDS: Final = re.compile(r"\.([A-Za-z_]\w*)")
_BLOCKS: Final = frozenset({"if", "range", "with", "define", "block"})


@dataclass(frozen=True, slots=True)
class Action:
    """One `{{ … }}`. `code` is what is inside, without trim marks, strings and comments."""

    start: int
    end: int
    code: str

    @property
    def keyword(self) -> str:
        return self.code.split(maxsplit=1)[0] if self.code else ""

    @property
    def fields(self) -> frozenset[str]:
        """Every name that stands after a dot: `.Messages`, `$m.Role`, `$.System`."""
        return frozenset(_FIELDS.findall(self.code))


def actions(source: str) -> Iterator[Action]:
    """The actions in order."""
    start = source.find(_OPEN)
    while start >= 0:
        end = _end(source, start + len(_OPEN))
        code = _QUOTED.sub(" ", source[start + len(_OPEN) : end - len(_CLOSE)])
        code = code.removeprefix("- ").removeprefix("-\n").removesuffix("-") if code[:1] == "-" else code.removesuffix(" -")
        yield Action(start, end, code.strip())
        start = source.find(_OPEN, end)


def _end(source: str, at: int) -> int:
    """Where the action that has begun before `at` is over."""
    while True:
        close = source.find(_CLOSE, at)
        if close < 0:
            return len(source)
        quoted = _QUOTED.search(source, at)
        if not quoted or quoted.start() > close:
            return close + len(_CLOSE)
        at = quoted.end()


def fields(source: str) -> frozenset[str]:
    """Every field that the template uses, at whatever depth."""
    return frozenset().union(*(action.fields for action in actions(source)))


def cut_at_response(source: str) -> str:
    """The template up to the first action that writes `.Response`, that one included, with open blocks closed.

    This is what the last turn is rendered with: what comes after an answer is for the model to say. A template that has no
    such action is given back whole.
    Source: ollama@v0.32 template/template.go, Execute and deleteNode.
    """
    open_blocks: list[str] = []
    for action in actions(source):
        keyword = action.keyword
        if keyword in _BLOCKS:
            open_blocks.append(keyword)
        elif keyword == "end" and open_blocks:
            open_blocks.pop()
        elif keyword != "else" and "Response" in action.fields and "define" not in open_blocks:
            return source[: action.end] + "{{ end }}" * len(open_blocks)
    return source

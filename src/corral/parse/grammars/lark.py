"""Writes grammars in Lark, as llguidance extends it."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final

from corral.core.types import Grammar
from corral.parse.grammars.patterns import literal

_UNSPEAKABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # which Lark's strings have no escapes for

_JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|: |, |.', re.DOTALL)

SPACE: Final = r"/[ \t\r\n]{0,16}/"


def quoted(text: str) -> str:
    """That text and nothing else; "" for none.

    >>> quoted('say "a"'), quoted("")
    ('"say \\\\"a\\\\""', '')
    """
    if _UNSPEAKABLE.search(text):
        return f"/{literal(text)}/"
    return json.dumps(text, ensure_ascii=False) if text else ""


def quoted_json(text: str) -> str:
    r"""The same for JSON, token by token: as llguidance writes its own, so that either may come in the same place.

    >>> print(quoted_json('{"a": '))
    "{" "\"a\"" ": "
    """
    return " ".join(map(quoted, _JSON_TOKEN.findall(text)))


def sequence(parts: Iterable[str]) -> str:
    """One after the other."""
    return " ".join(part for part in parts if part)


def one_of(parts: Sequence[str]) -> str:
    """Any of them."""
    found = list(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else "(" + " | ".join(found) + ")"


def maybe(part: str) -> str:
    return f"({part})?" if part else ""


def times(part: str, least: int, most: int | None) -> str:
    """So often."""
    if most is not None and most <= 0:
        return ""
    return f"({part}){{{least},{'' if most is None else most}}}"


class Lark:
    """Rules and terminals by name. What is the same is written once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def rule(self, body: str) -> str:
        """The name of a rule with this body."""
        return self._named(body, f"r{len(self._lines)}")

    def terminal(self, body: str) -> str:
        """The same for a terminal: of regexes and strings alone."""
        return self._named(body, f"T{len(self._lines)}")

    def promised(self) -> str:
        """A name for a rule that is written later: one that leads to itself."""
        name = f"r{len(self._lines)}"
        self._lines[name] = ""
        return name

    def keep(self, name: str, body: str) -> None:
        self._lines[name] = body

    def grammar(self, start: str, *, after: str = "", at_start: bool = False, is_json: bool = False) -> Grammar:
        lines = [f"start: {start or self.terminal('//')}", *(f"{name}: {body}" for name, body in self._lines.items())]
        return Grammar(text="\n".join(lines) + "\n", after=after, at_start=at_start, is_json=is_json)

    def _named(self, body: str, name: str) -> str:
        known = self._names.setdefault(body, name)
        if known == name:
            self._lines[name] = body
        return known


def in_order(lark: Lark, members: Sequence[tuple[str, bool]], separator: str, more: str = "") -> str:
    """Members one after the other, those required in any case, then as many of `more` as may be; with separators between."""
    first = next((at for at, (_, is_required) in enumerate(members) if is_required), len(members))
    any_more = f"({sequence((separator, more))})*" if more else ""
    later = [
        part if is_required else maybe(part)
        for member, is_required in members[first + 1 :]
        for part in (sequence((separator, member)),)
    ]
    if not separator:
        before = [maybe(member) for member, _ in members[:first]]
    elif first:
        before = [maybe(sequence((_some(lark, [member for member, _ in members[:first]], separator), separator)))]
    else:
        before = []
    if first < len(members):
        return sequence((*before, members[first][0], *later, any_more))
    if not separator:
        return sequence((*before, any_more))
    alternatives = [sequence((_some(lark, [member for member, _ in members], separator), any_more))] if members else []
    if more:
        alternatives.append(sequence((more, any_more)))
    return maybe(one_of(alternatives)) if alternatives else ""


def _some(lark: Lark, members: Sequence[str], separator: str) -> str:
    """At least one of them. Halved and halved again: llguidance follows rules as deep as they lead."""
    if len(members) == 1:
        return members[0]
    half = len(members) // 2
    left, right = (lark.rule(_some(lark, part, separator)) for part in (members[:half], members[half:]))
    return one_of([sequence((left, maybe(sequence((separator, right))))), right])

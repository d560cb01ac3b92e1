"""Grammars of calls for families that write them into the answer's text, by the format learned from the model's template.

Required, a grammar is the whole answer: calls, as the template writes them. Left to the model, a grammar begins behind the
marker of a call, so that name and arguments are those of a tool: whatever it may do before, it makes no call that is none.
What closes all calls may be left out: some templates leave it out themselves, and for some models its tag is one that ends an
answer and has no text. What closes one call is needed: it tells where the next begins.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from corral.core.types import Grammar
from corral.parse.formats import CallFormat, JsonCalls, NamedCalls, PythonCalls, TaggedCalls
from corral.parse.grammars.bodies import Bodies
from corral.parse.grammars.lark import SPACE, Lark, maybe, one_of, quoted, sequence
from corral.parse.grammars.toolset import Tool
from corral.parse.schema import Toolbox
from corral.parse.units import is_tag, words

_MOST_MARKED: Final = 32  # tools


class PlainCalls:
    """Calls of these tools in one format."""

    def __init__(
        self, form: CallFormat, tools: Sequence[Tool], definitions: Sequence[Mapping[str, Any]], *, parallel: bool
    ) -> None:
        self._form = form
        self._tools = tools
        self._toolbox = Toolbox(definitions)
        self._parallel = parallel
        body = form.body
        lists = body if isinstance(body, JsonCalls | PythonCalls) else None
        self._list_open, self._list_close = (lists.list_open, lists.list_close) if lists else ("", "")
        self.is_json = isinstance(body, JsonCalls | NamedCalls)

    def required(self) -> Grammar:
        """The whole answer. White space that the template begins with may be missing: a thought may stand before it."""
        lark = Lark()
        return lark.grammar(self.whole(lark), is_json=self.is_json)

    def whole(self, lark: Lark) -> str:
        all_open, each_open = self._form.around_all.open, self._form.around_each.open
        opening = all_open + self._list_open + each_open
        space = opening[: len(opening) - len(opening.lstrip())]
        return sequence((maybe(quoted(space)), self._from(lark, quoted(opening.lstrip()))))

    def free(self) -> Iterator[Grammar]:
        """One grammar for each text that a call may begin with."""
        if self._form.is_bare:
            yield from self._bare()
            return
        for marker, opening in _markers(self._form, self._list_open):
            lark = Lark()
            text = opening.lstrip()
            # Models are free with the white space after a tag, the more so where it shares a token with what follows.
            space = SPACE if len(text) < len(opening) or (not text and isinstance(self._form.body, JsonCalls)) else ""
            yield lark.grammar(self._from(lark, sequence((space, quoted(text)))), after=marker, is_json=self.is_json)

    def _bare(self) -> Iterator[Grammar]:
        """Nothing marks a call but itself: its beginning does, where the answer begins with it.

        That is all up to the tool's name, so that another object may be an answer. Each is a grammar to compile: of many tools,
        all up to the name's first letter.
        """
        body, lists = self._form.body, self._list_open.strip()
        if len(self._tools) > _MOST_MARKED:
            lark = Lark()
            bodies = Bodies(lark, body, self._toolbox)
            found = [begun for tool in self._tools if (begun := bodies.begun(tool))]
            opening = _common_begin([begin for begin, _ in found])
            rest = [sequence((quoted(begin.removeprefix(opening)), rest)) for begin, rest in found]
            if found:
                start = lark.rule(one_of([lark.rule(one) for one in rest]))
                yield lark.grammar(start, after=lists + opening, at_start=True, is_json=True)
            return
        for tool in self._tools:
            lark = Lark()
            if begun := Bodies(lark, body, self._toolbox).begun(tool):
                yield lark.grammar(begun[1], after=lists + begun[0], at_start=True, is_json=True)

    def _from(self, lark: Lark, opening: str) -> str:
        """From what opens the first call to the end of all."""
        call = self.any_call(lark)
        each, separator = self._form.around_each, self._form.separator
        one = sequence((call, quoted(each.close)))
        more = ""
        if self._parallel and self._may_follow:
            between = quoted(separator + each.open) or SPACE
            more = f"({sequence((between, one))})*"
        return sequence((opening, one, more, quoted(self._list_close), maybe(self._closing)))

    @property
    def _closing(self) -> str:
        """What closes all calls; a model may end without the white space behind it."""
        text = self._form.around_all.close
        tag = text.rstrip()
        return sequence((quoted(tag), maybe(quoted(text[len(tag) :])))) if tag else ""

    @property
    def _may_follow(self) -> bool:
        """Whether a call may come behind another: not what is bare and never separated, and Python only in a list."""
        if isinstance(self._form.body, PythonCalls):
            return bool(self._list_open)
        return bool(self._form.separator) or not self._form.is_bare

    def any_call(self, lark: Lark) -> str:
        bodies = Bodies(lark, self._form.body, self._toolbox)
        return lark.rule(one_of([lark.rule(bodies.call(tool)) for tool in self._tools]))


def _common_begin(texts: Sequence[str]) -> str:
    """What all of them begin with."""
    least, most = min(texts, default=""), max(texts, default="")
    return least[: next((at for at, char in enumerate(least) if char != most[at]), len(least))]


def _markers(form: CallFormat, list_open: str) -> Iterator[tuple[str, str]]:
    """The texts that a model begins to call with, and what is to come behind each.

    Some models leave out what is around all calls, or the outer of two tags. A tag alone is enough to tell. Where words belong
    to it, it takes all of them: each may come up in a text.
    """
    around_all, around_each = form.around_all.open, form.around_each.open
    found: dict[str, str] = {}
    if around_all.strip():
        parts = words(around_all)
        whole = around_all + list_open
        marker = parts[0] if all(map(is_tag, parts)) else whole.strip()
        found[marker] = whole.partition(marker)[2] + around_each
    parts = words(around_each)
    inner = parts if isinstance(form.body, TaggedCalls) else parts[:1]
    for marker in inner if all(map(is_tag, parts)) else [around_each.strip()]:
        found.setdefault(marker, around_each.partition(marker)[2])
    yield from found.items()

"""Markdown on a terminal. A block streams as the model writes it; when it is whole, its rendering takes its place.

What is drawn over is only what surely is on the screen: a block taller than that, or one during which the window changed its
size, stays as it was written. Nothing of the text is dropped for being mistaken for markup: HTML, links' addresses and the
backslashes of formulas stay.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Final, TextIO

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, ListItem, Markdown
from rich.segment import Segment
from rich.syntax import Syntax

from corral.cli.answer import WordWrap
from corral.cli.blocks import BlockSplitter, Closed, Event, Gap, Shown

_MARKUP = re.compile(r"[*_`#>|~\[\]\\&]|^\s*[-+]|^\s*\d+[.)]", re.MULTILINE)
_RAW = re.compile(r" {4}|\t")
_FENCED = re.compile(r"([ \t]*(`{3,}|~{3,})[ \t]*(\S*)[^\n]*)(?:\n(.*))?\Z", re.DOTALL)
_TRAILING = re.compile(r"[ \t]+((?:\x1b\[[\d;]*m)*)$", re.MULTILINE)
_ESCAPE = re.compile(r"\x1b\[[\d;]*m")
_CODE_THEME: Final = "ansi_dark"
_HOLD, _RELEASE = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it show what lies between at once


class MarkdownBody:
    """Writes the text of one answer."""

    def __init__(self, out: TextIO, size: Callable[[], tuple[int, int]], *, has_colours: bool) -> None:
        """`size`: the columns for text, and the lines of the screen, as they are now."""
        self._out, self._size = out, size
        self._renderer = Renderer(out, has_colours=has_colours)
        self._splitter = BlockSplitter()
        self._is_open = False
        self._began_size = size()
        self._wrap = WordWrap(self._began_size[0])
        self._breaks = 0  # how many lines the open block has on the screen, beside the cursor's

    def write(self, text: str) -> None:
        for event in self._splitter.feed(text):
            self._take(event)
        self._out.flush()

    def close(self) -> None:
        for event in self._splitter.close():
            self._take(event)
        self._out.flush()

    def _take(self, event: Event) -> None:
        match event:
            case Gap():
                self._out.write(event.text)
            case Shown():
                self._show(event.text)
            case Closed():
                self._is_open = False
                self._replace(event.source)

    def _show(self, text: str) -> None:
        if not self._is_open:
            self._is_open, self._breaks, self._began_size = True, 0, self._size()
            self._wrap = WordWrap(self._began_size[0])
        shown = self._wrap.feed(text)
        self._breaks += shown.count("\n")
        self._out.write(shown)

    def _replace(self, source: str) -> None:
        columns, lines = self._size()
        is_safe = (columns, lines) == self._began_size and self._breaks < lines - 1  # tmux keeps what is wiped from the top on
        if not is_safe or not _MARKUP.search(source) or _RAW.match(source):
            return
        text = self._renderer.render(source, columns)
        up = f"\x1b[{self._breaks}A" if self._breaks else ""
        end = "\n" if source.endswith("\n") else ""
        self._out.write(f"{_HOLD}\r{up}\x1b[J{text}{end}{_RELEASE}")


class Renderer:
    """One block of Markdown as text with escape sequences."""

    def __init__(self, out: TextIO, *, has_colours: bool) -> None:
        self._console = Console(file=out, force_terminal=True, no_color=not has_colours, highlight=False, legacy_windows=False)

    def render(self, source: str, columns: int) -> str:
        """Without blank lines around it, and without spaces at the ends of lines. Code is not wrapped: it may be copied."""
        self._console.width = columns
        with self._console.capture() as captured:
            if fenced := _FENCED.match(source):
                self._fence(*fenced.groups())
            else:
                self._console.print(_Markdown(source))
        lines = _TRAILING.sub(r"\1", captured.get()).split("\n")
        full = [at for at, line in enumerate(lines) if _ESCAPE.sub("", line)]
        return "\n".join(lines[full[0] : full[-1] + 1]) if full else ""

    def _fence(self, opening: str, mark: str, language: str, rest: str | None) -> None:
        body, _, last = (rest or "").rstrip("\n").rpartition("\n")
        if not last.strip().startswith(mark):
            body, last = f"{body}\n{last}" if body else last, ""
        self._console.print(opening, style="dim", markup=False)
        if body:
            code = Syntax("", language or "text", theme=_CODE_THEME, background_color="default").highlight(body)
            code.rstrip()
            self._console.print(code, soft_wrap=True)
        if last:
            self._console.print(last, style="dim", markup=False)


def _keep_formula(state: StateInline, silent: bool) -> bool:
    r"""`\(`, `\[` and their ends set formulas in what models write, and keep their backslash."""
    text = state.src[state.pos : state.pos + 2]
    if len(text) != 2 or text[0] != "\\" or text[1] not in "()[]":
        return False
    if not silent:
        state.pending += text
    state.pos += 2
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    parser.disable(["image", "reference", "autolink", "code"])
    parser.inline.ruler.before("escape", "formula", _keep_formula)
    return parser


_PARSER: Final = _parser()


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class _CodeBlock(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(str(self.text).rstrip(), self.lexer_name, theme=_CODE_THEME, background_color="default", word_wrap=True)


class _ListItem(ListItem):
    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        mark = f" {number}. "
        style = console.get_style("markdown.item.number", default="none")
        lines = console.render_lines(self.elements, options.update(width=options.max_width - len(mark)), style=self.style)
        for at, line in enumerate(lines):
            yield Segment(mark if at == 0 else " " * len(mark), style)
            yield from line
            yield Segment.line()


class _Markdown(Markdown):
    """rich's, with lines broken where the model broke them, headings at the left, and nothing left out."""

    elements: ClassVar = {
        **Markdown.elements,
        "heading_open": _Heading,
        "list_item_open": _ListItem,
        "fence": _CodeBlock,
    }

    def __init__(self, source: str) -> None:
        super().__init__("", code_theme=_CODE_THEME, justify="default", hyperlinks=False)
        self.parsed = [_with_breaks(token) for token in _PARSER.parse(source)]


def _with_breaks(token: Token) -> Token:
    for child in token.children or ():
        if child.type == "softbreak":
            child.type = "hardbreak"
    return token

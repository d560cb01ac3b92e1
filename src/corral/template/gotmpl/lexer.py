"""Splits a Go template into its tokens: text, and inside `{{ }}` words, literals and marks.

Trim marks are acted on here, so nobody after this sees them. What is wrong becomes a last token of kind "error".
Source: Go 1.26 text/template/parse/lex.go, written anew over Python's strings: positions are in characters.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_KEYWORDS: Final = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"})
_SPACES: Final = " \t\r\n"
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_WORD: Final = re.compile(r"\w+")
_STRING: Final = re.compile(r'"(?:\\[^\n]|[^"\\\n])*"')
_CHARACTER: Final = re.compile(r"'(?:\\[^\n]|[^'\\\n])*'")
_NUMBER: Final = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_AFTER_WORD: Final = frozenset(" \t\r\n.,|:)(")
_OPEN, _CLOSE = "{{", "}}"
_SINGLE: Final = {"=": "=", "|": "|"}
_SHOWN_CHARS: Final = 10


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is a keyword, a mark, or what it is: text, field, variable, identifier, bool, number, char, string, raw, space,
    eof or error.
    """

    kind: str
    text: str
    start: int
    line: int

    def __str__(self) -> str:
        """As Go's complaints show it."""
        if self.kind in ("eof", "error"):
            return self.text
        if self.kind in _KEYWORDS or self.kind == ".":
            return f"<{self.text}>"
        return f"{quoted(self.text[:_SHOWN_CHARS])}..." if len(self.text) > _SHOWN_CHARS else quoted(self.text)


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """As Go's `%q` writes it."""
    shown = {
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    return (
        '"'
        + "".join(
            shown.get(char) or (char if char.isprintable() and (char.isascii() or not ascii_only) else _escaped(char))
            for char in text
        )
        + '"'
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def tokens(source: str) -> list[Token]:
    """All tokens, up to one of kind "eof" or "error"."""
    return list(_Lexer(source).run())


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._lines = [match.end() for match in re.finditer("\n", source)]  # where each line but the first begins

    def run(self) -> Iterator[Token]:
        end = len(self._source)
        while self._at < end:
            for token in self._text() if not self._source.startswith(_OPEN, self._at) else self._action():
                yield token
                if token.kind == "error":
                    return
        yield self._token("eof", "EOF", end)

    def _token(self, kind: str, text: str, start: int) -> Token:
        return Token(kind, text, start, bisect_right(self._lines, start) + 1)

    def _error(self, text: str, start: int) -> Token:
        return self._token("error", text, start)

    def _text(self) -> Iterator[Token]:
        start = self._at
        end = self._source.find(_OPEN, start)
        end = len(self._source) if end < 0 else end
        self._at = end
        text = self._source[start:end]
        if self._trims_left(end):
            text = text.rstrip(_SPACES)
        if text:
            yield self._token("text", text, start)

    def _trims_left(self, at: int) -> bool:
        mark = self._source[at + 2 : at + 4]
        return len(mark) == 2 and mark[0] == "-" and mark[1] in _SPACES

    def _right(self, at: int) -> int:
        """How long the closing delimiter is that stands here, its trim mark included; 0: none does."""
        if self._source.startswith(_CLOSE, at):
            return 2
        return 4 if self._source[at : at + 1] in (*_SPACES,) and self._source.startswith("-}}", at + 1) else 0

    def _closed(self, at: int, length: int) -> None:
        self._at = at + length
        if length > 2:
            found = _SPACE.match(self._source, self._at)
            self._at = found.end() if found else self._at

    def _action(self) -> Iterator[Token]:
        start = self._at
        self._at += 4 if self._trims_left(start) else 2
        if self._source.startswith("/*", self._at):
            yield from self._comment()
            return
        yield self._token("{{", _OPEN, start)
        depth = 0
        while True:
            at = self._at
            if length := self._right(at):
                if depth:
                    yield self._error("unclosed left paren", at)
                    return
                self._closed(at, length)
                yield self._token("}}", _CLOSE, at + length - 2)
                return
            if at >= len(self._source):
                yield self._error("unclosed action", at)
                return
            token = self._item(at)
            depth += (token.kind == "(") - (token.kind == ")")
            if depth < 0:
                token = self._error("unexpected right paren", at)
            yield token
            if token.kind == "error":
                return
            self._at = at + len(token.text)

    def _comment(self) -> Iterator[Token]:
        start = self._at
        end = self._source.find("*/", start + 2)
        if end < 0:
            yield self._error("unclosed comment", start)
        elif length := self._right(end + 2):
            self._closed(end + 2, length)
        else:
            yield self._error("comment ends before closing delimiter", start)

    def _item(self, at: int) -> Token:
        """The token that begins here, inside an action."""
        char = self._source[at]
        if char in _SPACES:
            return self._space(at)
        if char == ":":
            return self._token(":=", ":=", at) if self._source.startswith(":=", at) else self._error("expected :=", at)
        if char in "=|()":
            return self._token(char, char, at)
        if char in "\"'`":
            return self._literal(char, at)
        if char == "$" or (char == "." and not self._source[at + 1 : at + 2].isdecimal()):
            return self._name(at)
        if char in "+-." or "0" <= char <= "9":
            return self._number(at)
        if char == "_" or char.isalnum():
            return self._word(at)
        if char.isascii() and char.isprintable():
            return self._token("mark", char, at)
        return self._error(f"unrecognized character in action: {_code_point(char)}", at)

    def _space(self, at: int) -> Token:
        """White space, but for the one character of it that belongs to a trim mark after it."""
        found = _SPACE.match(self._source, at)
        assert found
        end = found.end()
        if self._source.startswith("-}}", end):
            end -= 1
        return self._token("space", self._source[at:end], at)

    def _literal(self, quote: str, at: int) -> Token:
        if quote == "`":
            end = self._source.find("`", at + 1)
            return (
                self._token("raw", self._source[at : end + 1], at)
                if end > 0
                else self._error("unterminated raw quoted string", at)
            )
        found = (_STRING if quote == '"' else _CHARACTER).match(self._source, at)
        if found:
            return self._token("string" if quote == '"' else "char", found.group(), at)
        return self._error("unterminated quoted string" if quote == '"' else "unterminated character constant", at)

    def _name(self, at: int) -> Token:
        """`.`, `.Field`, `$` or `$variable`."""
        found = _WORD.match(self._source, at + 1)
        end = found.end() if found else at + 1
        if not self._ends_word(end):
            return self._bad_character(end, at)
        text = self._source[at:end]
        if text == ".":
            return self._token(".", ".", at)
        return self._token("variable" if text[0] == "$" else "field", text, at)

    def _word(self, at: int) -> Token:
        found = _WORD.match(self._source, at)
        assert found
        word = found.group()
        if not self._ends_word(found.end()):
            return self._bad_character(found.end(), at)
        if word in _KEYWORDS:
            return self._token(word, word, at)
        return self._token("bool" if word in ("true", "false") else "identifier", word, at)

    def _number(self, at: int) -> Token:
        found = _NUMBER.match(self._source, at)
        assert found
        end = found.end()
        follows = self._source[end : end + 1]
        if follows == "_" or follows.isalnum() or follows in ("+", "-"):
            return self._error(f"bad number syntax: {quoted(self._source[at : end + 1])}", at)
        return self._token("number", self._source[at:end], at)

    def _ends_word(self, at: int) -> bool:
        return at >= len(self._source) or self._source[at] in _AFTER_WORD or self._source.startswith(_CLOSE, at)

    def _bad_character(self, where: int, start: int) -> Token:
        return self._error(f"bad character {_code_point(self._source[where])}", start)


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X} '{char}'" if char.isprintable() else f"U+{ord(char):04X}"

"""Regular expressions as JSON Schema has them, ECMAScript's, made into what llguidance takes: Rust's, of whole strings.

A pattern is searched for: without anchors anything may stand before and after it. Here that is said outright, so that a result
can stand alone, between quotes, or in a grammar's terminal. All that is not a letter, a digit or an operator is written as a
number, so that no character means anything to the languages around it. What no automaton can do is refused: looking ahead and
behind, word boundaries, back-references.
"""

import re
from dataclasses import dataclass
from typing import Final

ANY_TEXT: Final = r"(?s:.*)"
_ANY_CHAR: Final = r"(?s:.)"
_NO_CHAR: Final = r"[^\x{0}-\x{10FFFF}]"
_NOT_NEWLINE: Final = r"[^\x{A}\x{D}\x{2028}\x{2029}]"
_SPACES: Final = r"\x{9}-\x{D}\x{20}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}"
_SETS: Final = {"d": "0-9", "w": "0-9A-Z_a-z", "s": _SPACES}
_CONTROLS: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_QUANTIFIER: Final = re.compile(r"(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})")
_PROPERTY: Final = re.compile(r"([pP])\{([A-Za-z0-9_=]+)\}")
_HEX: Final = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_LOW_HALF: Final = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_GROUP: Final = re.compile(r"\(\?(?::|<[A-Za-z_$][\w$]*>)")
_PLAIN_CHAR: Final = re.compile(r"[A-Za-z0-9]|\\x\{[0-9A-F]+\}")
_MAX_DEPTH: Final = 50  # of groups
_MAX_REPEATS: Final = 100_000
_REPEAT_DIGITS: Final = 9
_MAX_CHARS: Final = 20_000


class PatternError(ValueError):
    """The text is no regular expression, or none that can be enforced; says what is wrong."""


def literal(text: str) -> str:
    """A regex for that text alone.

    >>> literal("a/b")
    'a\\\\x{2F}b'
    """
    return "".join(char if char.isascii() and char.isalnum() else _char(ord(char)) for char in text)


def whole(pattern: str) -> str:
    """The same as a regex of whole strings. Raises PatternError.

    >>> whole("^a+$"), whole("b")
    ('(?:a+)', '(?:(?s:.*)b(?s:.*))')
    """
    if len(pattern) > _MAX_CHARS:
        raise PatternError(f"it has more than {_MAX_CHARS} characters")
    return _Reader(pattern).whole()


def matched(pattern: str) -> str:
    """The same for a pattern that is to match all of a text, with or without anchors. Raises PatternError.

    >>> matched("a|^b$")
    '(?:a|b)'
    """
    if len(pattern) > _MAX_CHARS:
        raise PatternError(f"it has more than {_MAX_CHARS} characters")
    return _Reader(pattern).whole(is_searched=False)


def without(word: str) -> str:
    """A regex of all texts that do not have the word in them. Its first character comes up in it only once.

    Each beginning of the word that is not the whole is followed by what does not go on with it: another character, the word's
    first one again, or the end.
    """
    assert word[0] not in word[1:], word
    chars = [literal(char) for char in word]
    first = chars[0]
    begun = ""
    for char in reversed(chars[1:-1]):
        begun = f"(?:{char}{begun})?"
    begun = first + begun
    broken = "|".join(f"{''.join(chars[:size])}[^{first}{chars[size]}]" for size in range(1, len(chars)))
    return f"(?:[^{first}]|(?:{begun})*(?:{broken}))*(?:{begun})*" if len(chars) > 1 else f"[^{first}]*"


def beginning(pattern: str) -> str:
    """What every string that the pattern matches begins with, as far as that is plain; as a regex writes it.

    >>> beginning("^ab*c"), beginning("ab"), beginning("^a|b")
    ('a', '', '')
    """
    try:
        branches = _Reader(pattern).branches()
    except PatternError:
        return ""
    if len(branches) != 1 or not branches[0].is_begin:
        return ""
    text, begin = branches[0].text, ""
    for found in _PLAIN_CHAR.finditer(text):
        if len(begin) != found.start() or text[found.end() : found.end() + 1] in ("*", "+", "?", "{"):
            break
        begin += found[0]
    return begin


@dataclass(slots=True)
class _Branch:
    """One alternative: what it matches, and whether it begins and ends where the string does."""

    text: str = ""
    pieces: int = 0
    is_begin: bool = False
    is_end: bool = False
    inner: "list[_Branch] | None" = None  # the branches of the group that is all there is of it

    def searched(self) -> str:
        if self.inner and self.pieces == 1 and any(one.is_begin or one.is_end for one in self.inner):
            before = [one if not self.is_begin else _Branch(one.text, 2, True, one.is_end) for one in self.inner]
            branches = [one if not self.is_end else _Branch(one.text, 2, one.is_begin, True) for one in before]
            return "(?:" + "|".join(one.searched() for one in branches) + ")"
        return ("" if self.is_begin else ANY_TEXT) + self.text + ("" if self.is_end else ANY_TEXT)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0

    def whole(self, *, is_searched: bool = True) -> str:
        branches = self.branches()
        if self._at < len(self._text):
            raise PatternError('a ")" closes nothing')
        return "(?:" + "|".join(branch.searched() if is_searched else branch.text for branch in branches) + ")"

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._next()
        self._at += len(char)
        return char

    def branches(self) -> list[_Branch]:
        branches = [self._branch()]
        while self._next() == "|":
            self._at += 1
            branches.append(self._branch())
        return branches

    def _branch(self) -> _Branch:
        branch = _Branch()
        while (char := self._next()) and char not in "|)":
            if char == "^":
                if branch.pieces:
                    raise PatternError('a "^" stands in its midst')
                self._at += 1
                branch.is_begin = True
            elif branch.is_end:
                raise PatternError('a "$" stands in its midst')
            elif char == "$":
                self._at += 1
                branch.is_end = True
            else:
                self._piece(branch)
        return branch

    def _piece(self, branch: _Branch) -> None:
        """One character, class or group, and how often it comes."""
        inner: list[_Branch] | None = None
        match self._next():
            case "(":
                inner = self._group()
                piece = "(?:" + "|".join(one.text for one in inner) + ")"
            case "[":
                piece = self._class()
            case ".":
                self._at += 1
                piece = _NOT_NEWLINE
            case "\\":
                self._at += 1
                piece = self._escape()
            case "*" | "+" | "?":
                raise PatternError(f'nothing stands before "{self._next()}"')
            case _:
                piece = _char(ord(self._take()))
        times = self._times()
        branch.text += piece + times
        branch.pieces += 1
        branch.inner = None if times else inner
        is_anchored = inner is not None and any(one.is_begin or one.is_end for one in inner)
        if is_anchored and (times or branch.pieces > 1 or self._next() not in ("", "|", ")", "$")):
            raise PatternError("an anchor stands in its midst")

    def _group(self) -> list[_Branch]:
        if self._text.startswith("(?", self._at):
            found = _GROUP.match(self._text, self._at)
            if found is None:
                raise PatternError(f'"{self._text[self._at : self._at + 4]}" looks ahead or behind, or sets a flag')
            self._at = found.end()
        else:
            self._at += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError(f"its groups are more than {_MAX_DEPTH} levels deep")
        inner = self.branches()
        self._depth -= 1
        if self._take() != ")":
            raise PatternError('a "(" is never closed')
        if any(one.inner and any(deep.is_begin or deep.is_end for deep in one.inner) for one in inner):
            raise PatternError("an anchor stands in its midst")
        return inner

    def _times(self) -> str:
        found = _QUANTIFIER.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        if self._next() == "?":  # as few as possible: the same strings
            self._at += 1
        least, comma, most = found.groups()
        if least is None:
            times = found[0]
        elif max(len(least), len(most or "")) > _REPEAT_DIGITS or max(int(least), int(most or 0)) > _MAX_REPEATS:
            raise PatternError(f'"{found[0]}" repeats more than {_MAX_REPEATS} times')
        elif most and int(most) < int(least):
            raise PatternError(f'"{found[0]}" is out of order')
        else:
            times = f"{{{int(least)}{',' if comma else ''}{int(most) if most else ''}}}"
        if _QUANTIFIER.match(self._text, self._at):
            raise PatternError(f'nothing stands before "{self._next()}"')
        return times

    def _escape(self) -> str:
        """What stands after a backslash, outside of a class."""
        char = self._next()
        if char in ("b", "B"):
            raise PatternError(f'"\\{char}" looks at what is around it')
        if char == "k" or (char in "123456789" and char):
            raise PatternError(f'"\\{char}" refers to what a group has matched')
        if char.lower() in _SETS and char:
            self._at += 1
            return f"[{'^' if char.isupper() else ''}{_SETS[char.lower()]}]"
        if found := _PROPERTY.match(self._text, self._at):
            self._at = found.end()
            return f"\\{found[1]}{{{found[2]}}}"
        return _char(self._code())

    def _code(self) -> int:
        """The character that an escape means."""
        if found := _HEX.match(self._text, self._at):
            self._at = found.end()
            code = int(found[1] or found[2] or found[3], 16)
            low = _LOW_HALF.match(self._text, self._at)
            if 0xD800 <= code < 0xDC00 and low:
                self._at = low.end()
                code = 0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)
            return code
        char = self._take()
        if char == "c" and self._next().isascii() and self._next().isalpha():
            return ord(self._take()) % 32
        if char in _CONTROLS and char:
            return _CONTROLS[char]
        if not char or (char.isascii() and char.isalnum()):
            raise PatternError(f'"\\{char}" means nothing')
        return ord(char)

    def _class(self) -> str:
        self._at += 1
        is_not = self._next() == "^"
        self._at += is_not
        members: list[str] = []
        while self._next() != "]":
            if not self._next():
                raise PatternError('a "[" is never closed')
            self._member(members)
        self._at += 1
        if not members:
            return _ANY_CHAR if is_not else _NO_CHAR
        return f"[{'^' if is_not else ''}{''.join(members)}]"

    def _member(self, members: list[str]) -> None:
        first = self._class_char(members)
        if self._next() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            if first is not None:
                members.append(_char(first))
            return
        self._at += 1
        last = self._class_char(members)
        if first is None or last is None:  # a set is no end of a range: the "-" is one character
            members += [_char(ord("-")), *(_char(code) for code in (first, last) if code is not None)]
        elif last < first:
            raise PatternError("a range in a class is out of order")
        else:
            members.append(f"{_char(first)}-{_char(last)}")

    def _class_char(self, members: list[str]) -> int | None:
        """One character of a class; None where it is a set of them, which is added to the members."""
        char = self._take()
        if char != "\\":
            return ord(char)
        escaped = self._next()
        if escaped == "b":
            self._at += 1
            return 8
        if escaped == "-":
            self._at += 1
            return ord("-")
        if (escaped and escaped.lower() in _SETS) or _PROPERTY.match(self._text, self._at):
            members.append(self._escape())
            return None
        return self._code()


def _char(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise PatternError("half a surrogate pair is no character")
    return chr(code) if code < 128 and chr(code).isalnum() else f"\\x{{{code:X}}}"

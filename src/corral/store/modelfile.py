'''Modelfiles: text to instructions and back. Pure: no file is opened, and no path or name is looked up.

A line is a command in any case and its value, or a comment. A value in `"…"` or `"""…"""` may go over several lines: it ends
at the first line that ends with the quote that it began with. There are no escapes, so a text with a line that ends in `"""`
cannot be quoted; it is written as `<<WORD`, its lines, and a line with that word alone, which Ollama does not read.
Nothing of a value is dropped but the quotes and the white space around it.
Source: ollama@v0.32 parser/parser.go, ParseFile and quote.
'''

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from corral.core.errors import BadRequestError
from corral.core.options import OPTION_KINDS

Command = Literal[
    "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter", "message", "requires"
]
COMMANDS: Final[tuple[str, ...]] = get_args(Command)
DEPRECATED_PARAMETERS: Final = ("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock")
_TEXTS: Final = ("license", "template", "system", "message", "parameter")  # what may be empty
_ROLES: Final = ("system", "user", "assistant")
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_END_OF_LINE: Final = re.compile(r"\r\n|\r|\n")
_COMMAND: Final = re.compile(r"([A-Za-z]+)(?=[ \t]|$)[ \t]*")
PARAMETER_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_NAME: Final = re.compile(rf"({PARAMETER_NAME.pattern})[ \t]+")
_HEREDOC: Final = re.compile(r"<<([A-Za-z_][A-Za-z0-9_]*)")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTH: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_VERSION: Final = re.compile(r"v?(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){0,2}(?:[-+][0-9A-Za-z.+-]+)?")


class ModelfileError(BadRequestError):
    """The text is no Modelfile. Says where, as `(line N): …`."""

    code = "bad_modelfile"

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"(line {line}): {text}" if line else text)
        self.line = line


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a Modelfile, or several. `str()` is how it is written."""

    command: Command
    value: str
    name: str = ""  # the parameter's name, the message's role
    line: int = field(default=0, compare=False)  # where it begins; 0: it was not read from a text

    def __str__(self) -> str:
        return " ".join([self.command.upper(), *filter(None, [self.name]), quoted(self.value)])


def parse_modelfile(data: bytes | str) -> tuple[Instruction, ...]:
    """The instructions in order. Bytes are UTF-8, or what a byte order mark says. Raises ModelfileError."""
    text = data if isinstance(data, str) else _decoded(data)
    instructions = tuple(_Parser(text).instructions())
    if not any(instruction.command == "from" for instruction in instructions):
        raise ModelfileError(0, "no FROM line")
    return instructions


def _decoded(data: bytes) -> str:
    bom, encoding = next(((bom, encoding) for bom, encoding in _BOMS if data.startswith(bom)), (b"", "utf-8"))
    data = data[len(bom) :]
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        line = len(_END_OF_LINE.findall(data[: exc.start].decode(encoding, "replace"))) + 1
        raise ModelfileError(line, f"this is no {encoding.upper()} text: {exc.reason}") from exc


class _Parser:
    """Walks over a text once. `_at` is where the next line begins, `_end` where the line ends that was taken last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._end = 0
        self._line = 0  # of the instruction that is being read
        self._next_line = 1

    def instructions(self) -> Iterator[Instruction]:
        while self._at < len(self._text):
            self._line = self._next_line
            line = self._take_line()
            if (content := line.lstrip()) and not content.startswith("#"):
                yield self._instruction(content)

    def _take_line(self) -> str:
        """The next line without its end, which is passed over."""
        start = self._at
        found = _END_OF_LINE.search(self._text, start)
        self._end, self._at = found.span() if found else (len(self._text), len(self._text))
        self._next_line += 1
        return self._text[start : self._end]

    def _instruction(self, line: str) -> Instruction:
        found = _COMMAND.match(line)
        if not found or found[1].lower() not in COMMANDS:
            known = ", ".join(f'"{command}"' for command in COMMANDS[:-1])
            raise self._error(f'command must be one of {known}, or "{COMMANDS[-1]}"')
        command, rest = cast("Command", found[1].lower()), line[found.end() :]
        if len(line) == len(found[1]):
            raise self._error(f"{command.upper()} needs a value")
        name = ""
        if command in ("parameter", "message"):
            name, rest = self._name(command, rest)
        value = self._value(rest)
        if not value and command not in _TEXTS:
            raise self._error(f"{command.upper()} needs a value")
        if command == "requires" and not _VERSION.fullmatch(value):
            raise self._error(f"requires must be a valid semver (e.g. 0.14.0), and {value!r} is none")
        return Instruction(command, value, name, self._line)

    def _name(self, command: Command, rest: str) -> tuple[str, str]:
        if command == "message" and (rest.split(None, 1) or [""])[0] not in _ROLES:
            raise self._error('message role must be one of "system", "user", or "assistant"')
        found = _NAME.match(rest)
        if not found:
            wanted = "a role and a text" if command == "message" else "a name and a value"
            raise self._error(f"{command.upper()} needs {wanted}")
        return found[1], rest[found.end() :]

    def _value(self, rest: str) -> str:
        first = rest.strip()
        if word := _HEREDOC.fullmatch(first):
            body = self._heredoc(word[1])
            return first if body is None else body
        if not first.startswith('"'):
            return first
        quote = '"""' if first.startswith('"""') else '"'
        if len(first) >= 2 * len(quote) and first.endswith(quote):
            return first[len(quote) : -len(quote)]
        begin = self._end - len(rest.lstrip()) + len(quote)
        while self._at < len(self._text):
            start = self._at
            line = self._take_line().rstrip()
            if line.endswith(quote):
                return self._text[begin : start + len(line) - len(quote)]
        raise self._error(f"unexpected EOF: the text that begins with {quote} has no {quote} at the end of a line")

    def _heredoc(self, word: str) -> str | None:
        """The lines up to the one that is that word; None where there is no such line."""
        found = re.compile(rf"^{word}(?=[\r\n]|\Z)", re.MULTILINE).search(self._text, self._at)
        if not found:
            return None
        body = self._text[self._at : found.start()]
        self._next_line += len(_END_OF_LINE.findall(body))
        self._at = found.start()
        self._take_line()
        return body[:-1]  # the newline before the word is not the text's

    def _error(self, text: str) -> ModelfileError:
        return ModelfileError(self._line, text)


def quoted(text: str) -> str:
    """The text as a value that is read as the same text: in quotes where it would be read as another."""
    is_bare = "\n" not in text and "\r" not in text and text == text.strip()
    if text and is_bare and not text.startswith('"') and not _HEREDOC.fullmatch(text):
        return text
    if '"' not in text:
        return f'"{text}"'
    if not any(line.rstrip().endswith('"""') for line in _END_OF_LINE.split(text)[:-1]):
        return f'"""{text}"""'
    word = "END"
    while f"\n{word}" in f"\n{text}":
        word += "_"
    return f"<<{word}\n{text}\n{word}"


def parameter(instruction: Instruction) -> Any:
    """The value of a PARAMETER, of the type that its option has; one of a list as a list of one.

    Raises ModelfileError for an option that does not exist, or a value of another type.
    """
    name, text = instruction.name, instruction.value
    where = f" (line {instruction.line})" if instruction.line else ""
    kind = OPTION_KINDS.get(name)
    match kind:
        case None:
            raise ModelfileError(0, f"unknown parameter '{name}'{where}")
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "float32" if _FLOAT.fullmatch(text):
            return float(text)
        case "boolean" if text in _TRUTH:
            return _TRUTH[text]
        case "string":
            return text
        case "array":
            return [text]
        case _:
            short = {"integer": "int", "float32": "float", "boolean": "bool"}.get(kind, kind)
            raise ModelfileError(0, f"invalid {short} value {text!r} for parameter '{name}'{where}")

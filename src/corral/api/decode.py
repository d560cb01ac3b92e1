"""From a request's bytes to its wire Struct, whatever the Content-Type says, with errors in the words of Go's JSON package.

The quick road is msgspec's. What it refuses is looked at again the slow way, which takes what Go takes and msgspec does not
(text after the value, broken UTF-8 and lone surrogates, which become U+FFFD, a body of null, and keys in another case when
what the request is about is missing), and else says what is wrong as Ollama does.
Source: go1.26 encoding/json decode.go and scanner.go.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Generic, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from corral.api.amount import check_amount
from corral.api.dialect import Dialect
from corral.api.errors import FieldError
from corral.core.errors import BadRequestError

R = TypeVar("R", bound=msgspec.Struct)

_NAMES: Final = (("model", "name"), ("source",), ("destination",))  # what a request may be about; of each group one is enough
_SLOW_LIMIT_BYTES: Final = (
    4 << 20
)  # what is longer and no plain JSON is refused without a second look, which would take seconds
_EXPECTED: Final = re.compile(r"got `(?P<got>\w+)`(?: - at `(?P<path>[^`]+)`)?")
_GO_KINDS: Final[Mapping[str, str]] = {"str": "string", "int": "number", "float": "number"}
_GO_NAMES: Final[Mapping[type, str]] = {str: "string", bool: "bool", int: "int", float: "float64"}
_CONTEXTS: Final[Mapping[str, str]] = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class RequestDecoder(Generic[R]):
    """Reads one type of request."""

    def __init__(self, kind: type[R], dialect: Dialect) -> None:
        self.kind = kind
        self._dialect = dialect
        self._decoder = msgspec.json.Decoder(kind)
        used = (tuple(name for name in group if name in kind.__struct_fields__) for group in _NAMES)
        self._names = tuple(group for group in used if group)

    def decode(self, body: bytes) -> R:
        """The request in the body. Raises BadRequestError, with Go's text, if there is none."""
        if not body or body.isspace():
            raise BadRequestError(self._dialect.no_body)
        check_amount(body)
        try:
            request = self._decoder.decode(body)
        except (ValueError, RecursionError) as exc:  # msgspec's errors, UnicodeDecodeError; too deep
            if len(body) > _SLOW_LIMIT_BYTES:
                raise BadRequestError(f"invalid JSON in a body of {len(body)} bytes: {exc}") from exc
            return self._slowly(body, fold_keys=False)
        if self._lacks_a_name(request) and len(body) <= _SLOW_LIMIT_BYTES:
            return self._slowly(body, fold_keys=True)
        return request

    def _lacks_a_name(self, request: R) -> bool:
        """Whether it does not say what it is about; then its keys may be written in another case."""
        return any(all(getattr(request, name) is None for name in group) for group in self._names)

    def _slowly(self, body: bytes, *, fold_keys: bool) -> R:
        value = _go_value(body)
        if fold_keys and isinstance(value, dict):
            value = {key.lower(): item for key, item in value.items()}
        try:
            return msgspec.convert({} if value is None else value, self.kind)
        except msgspec.ValidationError as exc:
            raise _type_error(self.kind, self._dialect.package, str(exc)) from exc


def _go_value(body: bytes) -> Any:
    """The first JSON value of the body, as Go reads it."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        value, _ = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_number).raw_decode(text)
        if "\\u" not in text:
            return value
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
        return json.loads(whole.decode("utf-16", "replace"))
    except json.JSONDecodeError as exc:
        raise BadRequestError(_syntax_error(exc)) from exc
    except RecursionError:
        raise BadRequestError("exceeded max depth") from None
    except ValueError as exc:  # a whole number of thousands of digits
        raise BadRequestError("json: cannot unmarshal number: it has too many digits") from exc


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRequestError(f"json: cannot unmarshal number {text}: it is out of range")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise BadRequestError(f"invalid character '{word[0]}' looking for beginning of value")


def _syntax_error(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    context = _CONTEXTS.get(error.msg, "looking for beginning of value")
    if error.msg == "Expecting ',' delimiter" and _innermost(error.doc[: error.pos]) == "[":
        context = "after array element"
    at = error.pos + 1 if error.msg.startswith("Invalid \\") else error.pos
    char = error.doc[min(at, len(error.doc) - 1)]
    return f"invalid character {_go_char(char)} {context}"


def _innermost(text: str) -> str:
    """The bracket that is still open at the end of a text of valid JSON."""
    opened: list[str] = []
    for bracket in re.findall(r'"(?:[^"\\]|\\.)*"|([\[\]{}])', text):
        if bracket in ("[", "{"):
            opened.append(bracket)
        elif bracket and opened:
            opened.pop()
    return opened[-1] if opened else ""


def _go_char(char: str) -> str:
    if char in ("'", '"'):
        return "'\\''" if char == "'" else "'\"'"
    return "'" + json.dumps(char, ensure_ascii=False)[1:-1] + "'"


# Types


def _type_error(kind: type[msgspec.Struct], package: str, message: str) -> FieldError:
    """Go's words for what msgspec found, for example "Expected `str | null`, got `int` - at `$.messages[0].content`"."""
    found = _EXPECTED.search(message)
    if not found:
        return FieldError("", f"json: cannot unmarshal into Go value of type {package}.{kind.__name__}: {message}")
    got = _GO_KINDS.get(found["got"], found["got"])
    path = found["path"]
    if not path:
        return FieldError("", f"json: cannot unmarshal {got} into Go value of type {package}.{kind.__name__}")
    fields = re.sub(r"\[[^\]]*\]", "", path).removeprefix("$.")
    want = _go_name(_type_at(kind, path), package)
    text = f"json: cannot unmarshal {got} into Go struct field {kind.__name__}.{fields} of type {want}"
    return FieldError(path.removeprefix("$.").removesuffix("[...]"), text)


def _type_at(kind: type[msgspec.Struct], path: str) -> Any:
    """The type of what stands at a path such as `$.messages[0].content`."""
    at: Any = kind
    for name, item in re.findall(r"\.(\w+)|(\[[^\]]*\])", path):
        at = _item(at) if item else _hints(_plain(at, msgspec.Struct))[name]
    return at


def _item(kind: Any) -> Any:
    """The type of what a list or a mapping holds."""
    return get_args(_plain(kind, list, dict))[-1]


@cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Type hints of a Struct, by the names that are used on the wire."""
    hints = get_type_hints(kind)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _plain(kind: Any, *wanted: type) -> Any:
    """The type without its None; of several types the first that is of a wanted kind, where there is one."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    kinds = [arg for arg in get_args(kind) if arg is not NoneType]
    fitting = [arg for arg in kinds if issubclass(get_origin(arg) or arg, wanted)] if wanted else []
    return (fitting or kinds)[0]


def _go_name(kind: Any, package: str) -> str:
    kind = _plain(kind)
    if get_origin(kind) is list:
        return f"[]{_go_name(get_args(kind)[0], package)}"
    if get_origin(kind) is dict:
        return f"map[string]{_go_name(get_args(kind)[1], package)}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"{package}.{kind.__name__}"
    return _GO_NAMES.get(kind, "interface {}")

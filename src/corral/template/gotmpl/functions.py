"""The functions that a Go template can call: Go's own and Ollama's.

A function raises CallError with what Go says of such arguments. None stands for a value that is not there.
Source: Go 1.26 text/template/funcs.go; ollama@v0.32 template/template.go, funcs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn
from urllib.parse import quote_plus

from corral.template.gotmpl import values
from corral.template.gotmpl.budget import Budget
from corral.template.gotmpl.printf import formatted
from corral.template.gotmpl.printing import OrderedMap, Struct, joined, shown, type_name

_HTML: Final = (("&", "&amp;"), ("\0", "\ufffd"), ('"', "&#34;"), ("'", "&#39;"), ("<", "&lt;"), (">", "&gt;"))
_JS: Final = {"\\": r"\\", "'": r"\'", '"': r"\"", "<": r"\u003C", ">": r"\u003E", "&": r"\u0026", "=": r"\u003D"}


class CallError(Exception):
    """Why a function cannot do with its arguments what it is asked for."""


@dataclass(frozen=True, slots=True)
class Function:
    """`call` gets the budget and the arguments; `least` of them must be there, and no more unless it `takes_more`.

    The first `texts` arguments must be strings; -1: all of them.
    """

    call: Callable[[Budget, Sequence[Any]], Any]
    least: int
    takes_more: bool = False
    texts: int = 0


def is_true(value: Any) -> bool:
    """What `if` makes of it: zero, "" and empty lists and maps are false."""
    if isinstance(value, OrderedMap):
        return bool(value.fields)
    return isinstance(value, Struct) or bool(value)


def _plain(value: Any) -> Any:
    """An ordered map as the map that it is."""
    return value.fields if isinstance(value, OrderedMap) else value


def _index(budget: Budget, arguments: Sequence[Any]) -> Any:
    item, *indexes = arguments
    if item is None:
        raise CallError("index of untyped nil")
    for index in indexes:
        container = _plain(item)
        if isinstance(container, Mapping) and not isinstance(container, Struct):
            if not isinstance(index, str):
                _wrong_key(index)
            item = container.get(index)
        elif isinstance(container, str | list | bytes):
            budget.looked_at(container if isinstance(container, str) and not container.isascii() else "")
            sequence = container.encode() if isinstance(container, str) else container
            item = sequence[_position(index, len(sequence), last=len(sequence) - 1)]
        elif item is None:
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _wrong_key(index: Any) -> NoReturn:
    if index is None:
        raise CallError("value is nil; should be of type string")
    raise CallError(f"value has type {type_name(index)}; should be string")


def _position(index: Any, length: int, *, last: int) -> int:
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= last:
        raise CallError(f"index out of range: {index}")
    return index


def _slice(budget: Budget, arguments: Sequence[Any]) -> Any:
    item, *indexes = arguments
    if item is None:
        raise CallError("slice of untyped nil")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list | bytes):
        raise CallError(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise CallError("cannot 3-index slice a string")
    budget.looked_at(item)
    sequence = item.encode() if isinstance(item, str) else item
    edges = [0, len(sequence), len(sequence)]
    edges[: len(indexes)] = [_position(index, len(sequence), last=len(sequence)) for index in indexes]
    for low, high in ((edges[0], edges[1]), (edges[1], edges[2])):
        if low > high:
            raise CallError(f"invalid slice index: {low} > {high}")
    cut = sequence[edges[0] : edges[1]]
    return cut.decode(errors="replace") if isinstance(item, str) and isinstance(cut, bytes) else cut


def _len(budget: Budget, arguments: Sequence[Any]) -> int:
    item = _plain(arguments[0])
    if item is None:
        raise CallError("len of nil pointer")
    if isinstance(item, str):
        budget.looked_at(item)
        return len(item) if item.isascii() else len(item.encode())
    if isinstance(item, list | bytes) or (isinstance(item, Mapping) and not isinstance(item, Struct)):
        return len(item)
    raise CallError(f"len of type {type_name(item)}")


def _kind(value: Any) -> Literal["none", "bool", "int", "float", "string", "other"]:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else "other"


def _equal(budget: Budget, arguments: Sequence[Any]) -> bool:
    first, *others = arguments
    if not others:
        raise CallError("missing argument for comparison")
    return any(_same(budget, first, other) for other in others)


def _same(budget: Budget, left: Any, right: Any) -> bool:
    kind, other = _kind(left), _kind(right)
    if kind != other:
        if "none" in (kind, other):
            return False
        raise CallError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kind != "other":
        budget.looked_at(left)
        return bool(left == right)
    if isinstance(left, Struct) and isinstance(right, Struct) and not isinstance(left, OrderedMap):
        return left is right
    raise CallError(f"non-comparable type {shown(left)}: {type_name(left)}")


def _less(budget: Budget, arguments: Sequence[Any]) -> bool:
    left, right = arguments
    kind, other = _kind(left), _kind(right)
    if "none" in (kind, other) or "other" in (kind, other):
        raise CallError("invalid type for comparison")
    if kind != other:
        raise CallError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kind == "bool":
        raise CallError("invalid type for comparison")
    budget.looked_at(left)
    return bool(left < right)


def _less_or_equal(budget: Budget, arguments: Sequence[Any]) -> bool:
    return _less(budget, arguments) or _equal(budget, arguments)


def _printf(budget: Budget, arguments: Sequence[Any]) -> str:
    return "".join(budget.made(piece) for piece in formatted(arguments[0], arguments[1:]))


def _call(budget: Budget, arguments: Sequence[Any]) -> NoReturn:
    """Nothing that a template is given is a function."""
    raise CallError("call of nil" if arguments[0] is None else f"non-function of type {type_name(arguments[0])}")


def _printed(arguments: Sequence[Any]) -> str:
    """As the functions that escape write their arguments: what is not there is `<no value>`."""
    return joined(["<no value>" if value is None else value for value in arguments])


def _html(budget: Budget, arguments: Sequence[Any]) -> str:
    text = _printed(arguments)
    for char, escaped in _HTML:
        text = text.replace(char, escaped)
    return budget.made(text)


def _js(budget: Budget, arguments: Sequence[Any]) -> str:
    text = _printed(arguments)
    budget.worked_through(text)
    return budget.made("".join(_JS.get(char) or (char if char.isprintable() else f"\\u{ord(char):04X}") for char in text))


def _urlquery(budget: Budget, arguments: Sequence[Any]) -> str:
    text = _printed(arguments)
    budget.worked_through(text)
    return budget.made(quote_plus(text, safe="~", errors="replace"))


def _text(make: Callable[[Sequence[Any]], str]) -> Callable[[Budget, Sequence[Any]], str]:
    """A function that makes a text, which is paid for."""
    return lambda budget, arguments: budget.made(make(arguments))


FUNCTIONS: Final[Mapping[str, Function]] = {
    "and": Function(lambda budget, arguments: arguments[-1], 1, takes_more=True),  # is not called: it need not look at all
    "or": Function(lambda budget, arguments: arguments[-1], 1, takes_more=True),
    "not": Function(lambda budget, arguments: not is_true(arguments[0]), 1),
    "call": Function(_call, 1, takes_more=True),
    "html": Function(_html, 0, takes_more=True),
    "js": Function(_js, 0, takes_more=True),
    "urlquery": Function(_urlquery, 0, takes_more=True),
    "index": Function(_index, 1, takes_more=True),
    "slice": Function(_slice, 1, takes_more=True),
    "len": Function(_len, 1),
    "print": Function(_text(joined), 0, takes_more=True),
    "printf": Function(_printf, 1, takes_more=True, texts=1),
    "println": Function(_text(lambda arguments: " ".join(map(shown, arguments)) + "\n"), 0, takes_more=True),
    "eq": Function(_equal, 1, takes_more=True),
    "ne": Function(lambda budget, arguments: not _equal(budget, arguments), 2),
    "lt": Function(_less, 2),
    "le": Function(_less_or_equal, 2),
    "gt": Function(lambda budget, arguments: not _less_or_equal(budget, arguments), 2),
    "ge": Function(lambda budget, arguments: not _less(budget, arguments), 2),
    "json": Function(_text(lambda arguments: values.to_json(arguments[0])), 1),
    "currentDate": Function(lambda budget, arguments: values.current_date(), 0, takes_more=True, texts=-1),
    "yesterdayDate": Function(lambda budget, arguments: values.yesterday_date(), 0, takes_more=True, texts=-1),
    "toTypeScriptType": Function(_text(lambda arguments: values.to_typescript_type(arguments[0])), 1),
}

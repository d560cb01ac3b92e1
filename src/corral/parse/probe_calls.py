"""Finds out how calls are written, from renderings of one call and of two."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from corral.parse.formats import Body, BracedCalls, CallFormat, JsonCalls, NamedCalls, Pair, TaggedCalls, ThoughtFormat
from corral.parse.probe_text import (
    ARGUMENTS,
    CONTENT,
    IDS,
    INNER,
    NAMES,
    NUMBER,
    NUMBER_KEY,
    OBJECT_KEY,
    QUESTION,
    TEXT,
    TEXT_KEY,
)
from corral.parse.probe_thought import without_thought
from corral.parse.units import common_end, common_start, is_tag, words

_MAX_BEFORE_NAME_CHARS: Final = 200  # in an object
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Core:
    """One call in a rendering: where the part that the name and the arguments fill begins and ends, and how it is written."""

    start: int
    end: int
    body: Body


def learned(begin: str, said: str, one: str, two: str, thought: ThoughtFormat | None) -> CallFormat | None:
    """The format; None where the call is not shown, or in a way that makes no sense.

    `begin` is the prompt for the turn, `said` has content in it instead of calls, `one` and `two` have that many calls.
    """
    single = _core(one, 0, one.find(QUESTION))
    if single is None:
        return None
    content = said.find(CONTENT)
    header = max(common_start(begin, one[: single.start]), common_start(said[: max(content, 0)], one[: single.start]))
    before = without_thought(one[header : single.start], thought)
    ending = said[content + len(CONTENT) :] if content >= 0 else ""
    after = _turn(one[single.end :], ending)
    first = _core(two, 0, two.find(QUESTION))
    second = _core(two, 1, first.end) if first else None
    between = two[first.end : second.start] if first and second else None
    form = _assembled(single.body, before, between, after)
    if second and not form.around_all.close:  # some templates say that the calls are over only where there are several
        form = _assembled(single.body, before, between, _turn(two[second.end :], ending))
    return form if _makes_sense(form) else None


def _turn(after: str, ending: str) -> str:
    """What follows a call up to the turn's end, which is also what follows content."""
    after = after[: len(after) - common_end(after, ending)]
    end = next((unit for unit in words(ending) if is_tag(unit)), "")
    return after.partition(end)[0] if end else after


def _assembled(body: Body, before: str, between: str | None, after: str) -> CallFormat:
    """Sorts what stands before, between and after calls into what is around each and around all."""
    if isinstance(body, JsonCalls) and before.rstrip().endswith("[") and after.lstrip().startswith("]"):
        return _listed(body, before, between, after)
    if between is None:
        each = Pair(before, after)
        return CallFormat(body=body, around_each=_trimmed(body, each))
    closing = _common_head(between, after)
    opening = between[len(between) - min(common_end(before, between), len(between) - len(closing)) :]
    if not opening.strip():
        opening = ""
    if not closing.strip():
        closing = ""
    return CallFormat(
        body=body,
        around_all=Pair(before.removesuffix(opening), after.removeprefix(closing)),
        around_each=_trimmed(body, Pair(opening, closing)),
        separator=between.removeprefix(closing).removesuffix(opening),
    )


def _listed(body: JsonCalls, before: str, between: str | None, after: str) -> CallFormat:
    opening, closing = before.rindex("["), after.index("]") + 1
    listed = replace(body, list_open=before[opening:], list_close=after[:closing])
    return CallFormat(body=listed, around_all=Pair(before[:opening], after[closing:]), separator=between or ", ")


def _trimmed(body: Body, each: Pair) -> Pair:
    """A body's own end is not what stands around it."""
    return Pair(each.open, each.close.removeprefix(body.after_value)) if isinstance(body, TaggedCalls) else each


def _common_head(one: str, other: str) -> str:
    return one[: common_start(one, other)]


def _makes_sense(form: CallFormat) -> bool:
    if isinstance(form.body, TaggedCalls):
        body = form.body
        needed = (form.around_each.close, body.before_key, body.before_value, body.before_string, body.after_value)
        return all(text.strip() for text in needed)
    if isinstance(form.body, NamedCalls):
        return not form.is_bare
    return True


def _core(text: str, number: int, start: int) -> _Core | None:
    """The call of that number, at or after `start`."""
    at = text.find(NAMES[number], start)
    if at < 0 or start < 0:
        return None
    if inside := _around(text, start, at):
        return _in_json(text, *inside, number)
    return _named(text, number, at) or _braced(text, at) or _tagged(text, at)


def _object_at(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """The JSON object that begins there, and where it ends."""
    try:
        found, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return (found, end) if isinstance(found, dict) else None


def _around(text: str, start: int, name_at: int) -> tuple[int, dict[str, Any], int] | None:
    """The outermost object with the name in it: where it begins, what it says, where it ends."""
    at = text.find("{", max(start, name_at - _MAX_BEFORE_NAME_CHARS), name_at)
    while at >= 0:
        found = _object_at(text, at)
        if found and found[1] > name_at:
            return at, *found
        at = text.find("{", at + 1, name_at)
    return None


def _in_json(text: str, start: int, said: dict[str, Any], end: int, number: int) -> _Core | None:
    body = _json_body(said, number)
    if body and "\n" in text[start:end]:
        body = replace(body, is_indented=True)
    return _Core(start, end, body) if body else None


def _json_body(said: dict[str, Any], number: int) -> JsonCalls | None:
    if said == {NAMES[number]: ARGUMENTS}:
        return JsonCalls(is_keyed=True)
    inside = next((key for key, value in said.items() if isinstance(value, dict) and NAMES[number] in value.values()), "")
    members = said[inside] if inside else said
    name_key = next((key for key, value in members.items() if value == NAMES[number]), None)
    arguments_key = next((key for key, value in members.items() if _arguments(value) == ARGUMENTS), None)
    if name_key is None or arguments_key is None:
        return None
    id_key = next((key for key, value in said.items() if value == IDS[number] or str(value) == str(number)), "")
    keys = list(said)
    return JsonCalls(
        name_key=name_key,
        arguments_key=arguments_key,
        inside=inside,
        id_key=id_key,
        id_number=_id_number(said.get(id_key)),
        id_first=bool(id_key) and keys.index(id_key) < keys.index(inside or name_key),
        arguments_as_text=isinstance(members[arguments_key], str),
    )


def _id_number(value: Any) -> Literal["", "text", "number"]:
    if value is None or value in IDS:
        return ""
    return "text" if isinstance(value, str) else "number"


def _arguments(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _object_at(value, 0)
    return found[0] if found else None


def _named(text: str, number: int, at: int) -> _Core | None:
    """The name, and behind it the arguments as an object."""
    name_end = at + len(NAMES[number])
    begin = text.find("{", name_end)
    found = _object_at(text, begin) if begin >= 0 else None
    if found is None or found[0] != ARGUMENTS:
        return None
    between = text[name_end:begin]
    before_id, has_id, before_arguments = between.partition(IDS[number])
    if has_id:
        body = NamedCalls(before_id=before_id, before_arguments=before_arguments) if before_arguments.strip() else None
    elif between.startswith(f":{number}"):
        body = NamedCalls(before_id=":", before_arguments=between.removeprefix(f":{number}"))
    else:
        body = NamedCalls(before_arguments=between)
    return _Core(at, found[1], body) if body else None


def _braced(text: str, at: int) -> _Core | None:
    """`NAME{key:QUOTEvalueQUOTE,...}`."""
    begin = re.compile(rf"{_NAME}\{{{TEXT_KEY}:(\S+?){TEXT}\1,").match(text, at)
    if begin is None:
        return None
    quote = begin[1]
    end = re.compile(rf"{re.escape(TEXT + quote)},.*?{INNER}{re.escape(quote)}\}}\}}", re.DOTALL).search(text, at)
    return _Core(at, end.end(), BracedCalls(quote=quote)) if end else None


def _tagged(text: str, at: int) -> _Core | None:
    """Keys and values, each between texts of its own. The three arguments are a string, a number and an object."""
    between: list[str] = []
    end = at + len(NAMES[0]) if text.startswith(NAMES[0], at) else at + len(NAMES[1])
    for known in (TEXT_KEY, TEXT, NUMBER_KEY, str(NUMBER), OBJECT_KEY):
        found = text.find(known, end)
        if found < 0:
            return None
        between.append(text[end:found])
        end = found + len(known)
    after_name, before_string, after_string, before_value, after_value = between
    inner = _object_at(text, end + len(before_value)) if text.startswith(before_value, end) else None
    if inner is None or inner[0] != ARGUMENTS[OBJECT_KEY] or after_string != after_value:
        return None
    before_key = after_value[len(after_value) - common_end(after_name, after_value) :]
    body = TaggedCalls(
        after_name=after_name.removesuffix(before_key),
        before_key=before_key,
        before_value=before_value,
        before_string=before_string,
        after_value=after_value.removesuffix(before_key),
    )
    return _Core(at, inner[1], body)


_NAME: Final = f"(?:{'|'.join(NAMES)})"

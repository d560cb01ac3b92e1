"""The tags that an answer of a format is taken apart by. Pure."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from corral.parse.formats import AnswerFormat
from corral.parse.units import is_tag, tag_parts, units


def markers(form: AnswerFormat) -> tuple[str, ...]:
    """Every tag in the format: an engine must give them as text, also where they are control tokens of the model.

    >>> from corral.parse.tools import GENERIC
    >>> from corral.parse.formats import PlainFormat, ThoughtFormat
    >>> markers(PlainFormat(family="x", thought=ThoughtFormat(open="<think>", close="</think>"), calls=GENERIC))
    ('<think>', '</think>', '<tool_call>', '</tool_call>')
    """
    found = (part for text in _texts(form) for cut in (tag_parts(text), units(text)) for part in cut)
    return tuple(dict.fromkeys(part for part in found if is_tag(part)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))

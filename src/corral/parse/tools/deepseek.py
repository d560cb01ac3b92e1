"""DeepSeek: its models misspell the tag before all calls, with plain spaces, underscores or without its last word."""

from dataclasses import replace
from typing import Final

from corral.parse.formats import CallFormat, Pair

_BEGIN: Final = "<｜tool▁calls▁begin｜>"  # noqa: RUF001
_MISSPELT: Final = ("tool_calls_begin", "tool calls begin", "tool\\_calls\\_begin", "tool▁calls")


def also(source: str, learned: CallFormat) -> tuple[CallFormat, ...]:
    """The same with other beginnings."""
    if _BEGIN not in source:
        return ()
    begins = (_BEGIN.replace("tool▁calls▁begin", other) for other in _MISSPELT)
    return tuple(replace(learned, around_all=Pair(begin, learned.around_all.close)) for begin in begins)

"""Finds out what is around a thought."""

from collections.abc import Iterable, Sequence
from typing import Final

from corral.parse.formats import ThoughtFormat
from corral.parse.probe_text import THOUGHT, Shown
from corral.parse.units import common_start, units

_KNOWN: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
)


def learned(source: str, shown: Iterable[Shown], said: str, prompts: Sequence[str]) -> ThoughtFormat | None:
    """From renderings of a thought; else from the tags that stand in the template or at the end of a prompt."""
    for one in shown:
        at = one.text.find(THOUGHT)
        before, after = one.text[:at], one.text[at + len(THOUGHT) :]
        form = _known(before, after) or _shown_first(one.begin, said, before, after)
        if form:
            return form
    at_end = ((tags, prompt) for prompt in prompts for tags in _KNOWN if prompt.rstrip().endswith(tags))
    tags, prompt = next(at_end, (next((tags for tags in _KNOWN if tags[0] in source or tags[1] in source), None), "\n"))
    return _usual(*tags, line="" if prompt == prompt.rstrip() else "\n") if tags else None


def _usual(opening: str, closing: str, line: str) -> ThoughtFormat:
    """Nobody shows what is around a thought but the prompt, which ends with a tag, on a line of its own or not."""
    return ThoughtFormat(open=opening + line, close=line + closing + 2 * line)


def without_thought(text: str, thought: ThoughtFormat | None) -> str:
    """What stands before an answer without the tags of a thought that has nothing in it."""
    if thought is None:
        return text
    for tag in (thought.open.strip(), thought.close.strip()):
        bare = text.lstrip()
        if bare.startswith(tag):
            text = bare.removeprefix(tag).lstrip()
    return text


def _known(before: str, after: str) -> ThoughtFormat | None:
    for opening, closing in _KNOWN:
        if before.rstrip().endswith(opening) and after.lstrip().startswith(closing):
            return ThoughtFormat(
                open=opening + before[len(before.rstrip()) :],
                close=after[: len(after) - len(after.lstrip())] + closing + _space_after(after.lstrip(), closing),
            )
    return None


def _space_after(text: str, tag: str) -> str:
    rest = text[len(tag) :]
    return rest[: len(rest) - len(rest.lstrip())]


def _shown_first(begin: str, said: str, before: str, after: str) -> ThoughtFormat | None:
    """Tags that nobody knows yet: what the thought begins with, in the rendering or in the prompt, and the tag after it."""
    header = max(common_start(begin, before), common_start(said, before))
    opening = before[header:] or begin[common_start(begin, before) :]
    space = after[: len(after) - len(after.lstrip())]
    closing = next(iter(units(after.lstrip())), "")
    if not opening.strip() or not closing:
        return None
    return ThoughtFormat(open=opening, close=space + closing + _space_after(after.lstrip(), closing))

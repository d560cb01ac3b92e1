"""Families that are known by their template's text. Asked for before it is probed, or where that has shown nothing."""

from dataclasses import replace

from corral.parse.formats import CallFormat, MessageFormat
from corral.parse.tools import atem, deepseek, functionary, generic, granite, harmony, lfm2, llama3, phi4

__all__ = ["GENERIC", "by_text", "in_messages", "with_habits"]

GENERIC = generic.FORMAT


def in_messages(source: str) -> MessageFormat | None:
    """The family whose answers are rows of messages: a probe cannot tell what their headers mean."""
    return atem.recognise(source) or harmony.recognise(source) or functionary.recognise(source)


def by_text(source: str) -> CallFormat | None:
    """How a family calls whose template shows no calls."""
    return granite.recognise(source) or phi4.recognise(source) or lfm2.recognise(source)


def with_habits(source: str, learned: CallFormat) -> CallFormat:
    """The learned format with what the family's models are known to do besides."""
    return replace(learned, also=(*learned.also, *llama3.also(source), *deepseek.also(source, learned)))

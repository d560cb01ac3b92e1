"""Llama 3: besides bare JSON, which its template shows, calls of built-in tools behind a tag, as Python or as JSON."""

from typing import Final

from corral.parse.formats import CallFormat, Pair, PythonCalls

PYTHON_TAG: Final = CallFormat(around_all=Pair("<|python_tag|>"), separator="; ", body=PythonCalls())


def also(source: str) -> tuple[CallFormat, ...]:
    """What its models do besides what was learned from their template."""
    is_one = "<|start_header_id|>" in source and "ipython" in source and "<function=" not in source
    return (PYTHON_TAG,) if is_one else ()

"""Jinja as Hugging Face runs it: the immutable sandbox with the names, tags and filters that chat templates rely on.

Only a rendering process imports this: jinja2 compiles a template to Python, and nothing in it bounds what that does.
Source: transformers, utils/chat_template_utils.py, written anew.
"""

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_KEPT_TEMPLATES: Final = 32


class GenerationTag(Extension):
    """The `{% generation %}` block, which marks what a model said. It has a scope of its own and changes no text."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _said(self, _context: EvalContext, caller: Callable[[], str]) -> str:
        return caller()


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: keys in the order they came, no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _tojson_of_anything(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The same, with what a filter like `map` gives as a list."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=list)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


class _Namespace(Namespace):
    """jinja2's, but for names with an underscore, by which a template could get at Python's inside."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as jinja2 does it: `self` may be a name
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names that begin with an underscore are Python's own")


class _LenientEnvironment(ImmutableSandboxedEnvironment):
    """Takes what templates do that were only ever run by other engines: they append to lists of their own."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return (type(obj) is list and attr == "append") or super().is_safe_attribute(obj, attr, value)


def _prepared(environment: ImmutableSandboxedEnvironment, tojson_filter: Callable[..., str]) -> ImmutableSandboxedEnvironment:
    environment.filters["tojson"] = tojson_filter
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _new_dict  # the class itself has more to it than a template should see
    environment.globals["namespace"] = _Namespace
    return environment


def _new_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


_SETTINGS: Final[dict[str, Any]] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": ["jinja2.ext.loopcontrols", GenerationTag],
    "cache_size": 0,
}
STRICT: Final = _prepared(ImmutableSandboxedEnvironment(**_SETTINGS), tojson)
LENIENT: Final = _prepared(_LenientEnvironment(**_SETTINGS), _tojson_of_anything)


@lru_cache(maxsize=_KEPT_TEMPLATES)
def compiled(source: str, *, is_lenient: bool = False) -> Template:
    """The template, compiled once. Raises TemplateError and whatever Python's own compiler raises."""
    return (LENIENT if is_lenient else STRICT).from_string(source)

"""The grammars of an answer: of one that is to meet a format, of one that calls tools, and of one that may do either."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from msgspec.structs import replace

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.parse.formats import AnswerFormat, MessageFormat
from corral.parse.grammars.calls import PlainCalls
from corral.parse.grammars.compiling import compiled
from corral.parse.grammars.document import check_size
from corral.parse.grammars.json_form import embedded
from corral.parse.grammars.lark import Lark, maybe, one_of, quoted, sequence
from corral.parse.grammars.messages import FAMILIES, MessageCalls
from corral.parse.grammars.patterns import PatternError, matched
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.toolset import Tool, named, toolset

_KEPT: Final = 32  # sets of tools whose grammars are remembered
_MAX_KEPT_CHARS: Final = 200_000
_MAX_TOOL_VALUES: Final = 1_000_000  # of all kinds in all tools
_MAX_CHOICES: Final = 10_000
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}  # what Ollama's "json" is too: its grammar begins with an object
Mode = Literal["auto", "required"]


def answer_grammar(
    format_: Any = None,
    *,
    grammar: str = "",
    regex: str = "",
    choice: Sequence[str] = (),
    form: AnswerFormat | None = None,
) -> Grammar | None:
    """The grammar of a whole answer; None where it is free.

    It is "json" or a JSON schema in `format_`, a GBNF grammar, a regex of the whole answer, or a choice of texts: one of these.
    `form` is how the model writes answers: then what its family puts before and behind one is let through. Raises
    BadRequestError for more than one of them, and for what cannot be enforced.
    """
    if _only_one(format_, grammar, regex, choice) == "grammar":
        return Grammar(text=grammar, kind="gbnf")
    lark = Lark()
    text = _text(lark, format_, regex, choice)
    return lark.grammar(_around(text, form), is_json=not (regex or choice)) if text else None


def call_grammars(
    form: AnswerFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    mode: Mode = "auto",
    name: str = "",
    parallel: bool = True,
) -> tuple[Grammar, ...]:
    """The grammars of calls. Required: of the whole answer, with one call or more, of that tool if one is named.

    Else one for each text that a call may begin with; a schema that cannot be enforced is then enforced as far as it can be,
    unless its tool says that it is strict. Where calls may not be parallel the answer ends with the first. Raises
    BadRequestError.
    """
    check_size(tools, "tools", _MAX_TOOL_VALUES)
    asked = _Asked(form, mode, name, parallel)
    text = json.dumps(tools)
    return _made_before(asked, text) if len(text) <= _MAX_KEPT_CHARS else _made(asked, tools)


@dataclass(frozen=True, slots=True)
class _Asked:
    form: AnswerFormat
    mode: Mode
    name: str
    parallel: bool


@lru_cache(maxsize=_KEPT)
def _made_before(asked: _Asked, tools: str) -> tuple[Grammar, ...]:
    """An agent sends the same tools with every turn."""
    return _made(asked, json.loads(tools))


def _made(asked: _Asked, tools: Sequence[Mapping[str, Any]]) -> tuple[Grammar, ...]:
    is_required = asked.mode == "required"
    known = toolset(tools, is_lenient=not is_required)
    if is_required:
        return (_calls(asked.form, named(known, asked.name), tools, parallel=asked.parallel)[0].required(),)
    ways = _calls(asked.form, known, tools, parallel=asked.parallel)
    found = [replace(grammar, ends=not asked.parallel) for calls in ways for grammar in _free(calls, known)]
    return tuple({(grammar.after, grammar.at_start): grammar for grammar in reversed(found)}.values())[::-1]


def _free(calls: PlainCalls | MessageCalls, tools: Sequence[Tool]) -> list[Grammar]:
    """The grammars of calls that a model may make; none where the name of a tool cannot be written in such calls.

    It could never be called by them, and another must not be called in its place.
    """
    try:
        return list(calls.free())
    except UnenforceableError:
        if not all(tool.is_lenient for tool in tools):
            raise
        return []


def call_or_answer_grammar(
    form: AnswerFormat,
    tools: Sequence[Mapping[str, Any]],
    format_: Any = None,
    *,
    grammar: str = "",
    regex: str = "",
    choice: Sequence[str] = (),
    parallel: bool = True,
) -> Grammar:
    """Of a whole answer that is either calls, or a text of that kind. Raises BadRequestError, for GBNF in any case.

    As nothing forces a call, a tool's schema is enforced as far as it can be, unless the tool says that it is strict.
    """
    if _only_one(format_, grammar, regex, choice) == "grammar":
        raise UnenforceableError('"grammar" cannot be used together with tools that may be called; use "format" or "regex"')
    lark = Lark()
    check_size(tools, "tools", _MAX_TOOL_VALUES)
    way = _calls(form, toolset(tools, is_lenient=True), tools, parallel=parallel)[0]
    calls = way.whole(lark)
    is_bare = not isinstance(form, MessageFormat) and form.calls.is_bare
    text = _text(lark, format_, regex, choice, is_indented=not is_bare)  # they are told apart token by token then
    if not text:
        raise BadRequestError("an answer that is to meet a format needs one")
    is_json = way.is_json and not (regex or choice)
    return lark.grammar(one_of([lark.rule(calls), lark.rule(_around(text, form))]), is_json=is_json)


def _only_one(format_: Any, grammar: str, regex: str, choice: Sequence[str]) -> str:
    """The name of the one that is given, or ""."""
    given = {"format": format_ not in (None, ""), "grammar": bool(grammar), "regex": bool(regex), "choice": bool(choice)}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise BadRequestError(f"{' and '.join(names)} were given; an answer can be held to one of them only")
    return names[0] if names else ""


def _text(lark: Lark, format_: Any, regex: str, choice: Sequence[str], *, is_indented: bool = True) -> str:
    """What is to be met, as a part of the grammar; "" for nothing. JSON of any kind may be indented, if it is let."""
    if regex:
        try:
            return lark.terminal(f"/{matched(regex)}/")
        except PatternError as error:
            raise UnenforceableError(f"regex: {shown(regex)}: {error}") from error
    if choice:
        return lark.rule(_choice(choice))
    if format_ in (None, ""):
        return ""
    if format_ == "json":
        return lark.rule(embedded(compiled(_ANY_OBJECT, "format"), is_indented=is_indented))
    if isinstance(format_, str):
        raise BadRequestError(f'invalid format: {shown(format_)}; expected "json" or a valid JSON Schema object')
    return lark.rule(embedded(compiled(format_, "format")))


def _choice(choice: Sequence[str]) -> str:
    if len(choice) > _MAX_CHOICES:
        raise BadRequestError(f"choice: {len(choice)} texts are too many; {_MAX_CHOICES} are taken")
    wrong = next((one for one in choice if not isinstance(one, str) or not one), None)
    if wrong is not None:
        raise BadRequestError(f"choice: {shown(wrong)} is no text to choose")
    return one_of([quoted(one) for one in choice])


def _around(text: str, form: AnswerFormat | None) -> str:
    """The text in an answer of the model's family."""
    if isinstance(form, MessageFormat):
        return FAMILIES[form.family].answer(text)
    if form is None or not form.around_content.open:
        return text
    around = form.around_content
    return one_of([text, sequence((quoted(around.open.lstrip()), text, maybe(quoted(around.close.rstrip()))))])


def _calls(
    form: AnswerFormat, tools: Sequence[Any], definitions: Sequence[Mapping[str, Any]], *, parallel: bool
) -> list[PlainCalls | MessageCalls]:
    """How the family calls, first of all as its template writes it."""
    if not tools:
        raise BadRequestError("tool_choice: there are no tools")
    if isinstance(form, MessageFormat):
        return [FAMILIES[form.family](form, tools, definitions, parallel=parallel)]
    return [PlainCalls(one, tools, definitions, parallel=parallel) for one in (form.calls, *form.calls.also)]

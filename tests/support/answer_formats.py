"""One format of each kind, written down by hand: what families' templates teach, without their templates."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from corral.parse import (
    AnswerFormat,
    BracedCalls,
    CallFormat,
    JsonCalls,
    MessageFormat,
    NamedCalls,
    Pair,
    PlainFormat,
    PythonCalls,
    TaggedCalls,
    ThoughtFormat,
)
from corral.parse.tools import GENERIC, atem, functionary, granite, harmony, lfm2, llama3, phi4
from tests.support.answers import Said, written

THINK: Final = ThoughtFormat(open="<think>\n", close="\n</think>\n\n")
HERMES: Final = CallFormat(around_each=Pair("<tool_call>\n", "\n</tool_call>"), separator="\n", body=JsonCalls())
ARROWS: Final = TaggedCalls(
    after_name="",
    before_key="\n<arg_key>",
    before_value="</arg_key>\n<arg_value>",
    before_string="</arg_key>\n<arg_value>",
    after_value="</arg_value>",
)
LINES: Final = TaggedCalls(
    after_name=">", before_key="\n<parameter=", before_value=">\n", before_string=">\n", after_value="\n</parameter>"
)
TYPED: Final = TaggedCalls(
    after_name='">',
    before_key='\n<|x|parameter name="',
    before_value='" string="false">',
    before_string='" string="true">',
    after_value="</|x|parameter>",
)


def plain(calls: CallFormat, thought: ThoughtFormat | None = THINK, around: Pair | None = None) -> PlainFormat:
    return PlainFormat(family="test", thought=thought, calls=calls, around_content=around or Pair())


FORMATS: Final[dict[str, AnswerFormat]] = {
    "objects in tags": plain(HERMES),
    "list in tags": plain(
        CallFormat(
            around_all=Pair("<|ACTION|>", "<|END_ACTION|>"), separator=", ", body=JsonCalls(list_open="[", list_close="]")
        ),
        ThoughtFormat(open="<|THINKING|>", close="<|END_THINKING|>"),
        Pair("<|RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    "objects in lines": plain(
        CallFormat(around_all=Pair("<tool_calls>\n", "\n</tool_calls>"), separator="\n", body=JsonCalls())
    ),
    "name as key": plain(
        CallFormat(
            around_all=Pair("<|tools|>", "<|/tools|>"),
            separator=", ",
            body=JsonCalls(is_keyed=True, list_open="[", list_close="]"),
        )
    ),
    "list after a word": plain(
        CallFormat(around_all=Pair(" functools"), separator=", ", body=JsonCalls(list_open="[", list_close="]")), None
    ),
    "bare object": plain(
        CallFormat(body=JsonCalls(arguments_key="parameters"), separator="; ", also=(llama3.PYTHON_TAG,)), None
    ),
    "generic": plain(GENERIC),
    "name and number": plain(
        CallFormat(
            around_all=Pair("<|calls_begin|>", "<|calls_end|>"),
            around_each=Pair("<|call_begin|>functions.", "<|call_end|>"),
            body=NamedCalls(before_id=":", before_arguments="<|argument_begin|>"),
        ),
        ThoughtFormat(open="<think>", close="</think>"),
    ),
    "name and id": plain(
        CallFormat(around_each=Pair("[TOOL_CALLS]"), body=NamedCalls(before_id="[CALL_ID]", before_arguments="[ARGS]")),
        ThoughtFormat(open="[THINK]", close="[/THINK]"),
    ),
    "name and fence": plain(
        CallFormat(
            around_all=Pair("<｜calls｜>", "<｜/calls｜>"),  # noqa: RUF001
            around_each=Pair("<｜call｜>function<｜sep｜>", "\n```<｜/call｜>"),  # noqa: RUF001
            separator="\n",
            body=NamedCalls(before_arguments="\n```json\n"),
        )
    ),
    "name in tag": plain(CallFormat(around_each=Pair("<function=", "</function>"), body=NamedCalls(before_arguments=">"))),
    "tags for keys and values": plain(
        CallFormat(around_each=Pair("<tool_call>", "\n</tool_call>"), separator="\n", body=ARROWS)
    ),
    "tags with keys": plain(
        CallFormat(around_each=Pair("<tool_call>\n<function=", "\n</function>\n</tool_call>"), separator="\n", body=LINES)
    ),
    "tags with types": plain(
        CallFormat(
            around_all=Pair("\n\n<|x|calls>\n", "</|x|calls>"),
            around_each=Pair('<|x|invoke name="', "\n</|x|invoke>\n"),
            body=TYPED,
        )
    ),
    "braces": plain(
        CallFormat(around_each=Pair("<|tool_call>call:", "<tool_call|>"), body=BracedCalls(quote='<|"|>')),
        ThoughtFormat(open="<|channel>thought\n", close="<channel|>"),
    ),
    "python": plain(lfm2.FORMAT),
    "python, bare tag": plain(
        CallFormat(around_all=Pair("<|py|>"), separator=", ", body=PythonCalls(list_open="[", list_close="]"))
    ),
    "granite": plain(granite.FORMAT, THINK, Pair("<response>", "</response>")),
    "phi4": plain(phi4.FORMAT, None),
    "harmony": harmony.FORMAT,
    "atem": atem.FORMAT,
    "functionary": functionary.FORMAT,
}


def prompt_of(form: AnswerFormat) -> str:
    """What a prompt ends with where the answer begins at its very start."""
    if not isinstance(form, MessageFormat):
        return "assistant\n"
    return form.start if form is functionary.FORMAT else form.start + "assistant"


def answer(form: AnswerFormat, calls: Sequence[tuple[str, Mapping[str, Any]]], *, thought: str = "", content: str = "") -> Said:
    """A whole answer in that format."""
    if isinstance(form, MessageFormat):
        return Said(prompt_of(form), _messages(form, calls, thought, content))
    said = form.thought.open + thought + form.thought.close if form.thought and thought else ""
    if content:
        said += form.around_content.open + content + form.around_content.close
    return Said(prompt_of(form), said + (written(form.calls, calls) if calls else ""))


def _messages(form: MessageFormat, calls: Sequence[tuple[str, Mapping[str, Any]]], thought: str, content: str) -> str:
    begin = form.start if form is functionary.FORMAT else form.start + "assistant"
    parts = []
    if thought and form.thought:
        parts.append(form.thought.open + thought + form.thought.close)
    if content:
        parts.append(_CONTENT_HEADERS[form.family] + content + (form.ends[0] if form.ends else ""))
    for call in calls:
        text = written(form.calls, [call]).removeprefix(form.start)
        parts.append(f" to={call[0]}<|message|>{text}<|eot|>" if form is atem.FORMAT else text)
    return begin.join(parts)


_CONTENT_HEADERS: Final = {
    "harmony": "<|channel|>final<|message|>",
    "atem": " to=user<|message|>",
    "functionary-3.2": "all\n",
}

"""Known chat formats: recognised by what a GGUF's Jinja template does.

A family is recognised by behaviour. A short conversation is rendered, and the marks that stand before, between and after its
turns are compared, without white space and without the model's own begin and end tokens; so the same format is found however
its template is written. A template that knows tools or thoughts is none of these: it says more than a family can.
"""

from functools import lru_cache
from typing import Final

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template.conversation import Conversation
from corral.template.formats import EOS, FAMILIES, Family, Marks
from corral.template.jinja import JinjaTemplate, RenderingProcesses, compile_jinja

_DEFAULT_EOS: Final = "</s>"
_MAX_JINJA_CHARS: Final = 8192  # longer ones do more than a family does
_BOS_PROBE, _EOS_PROBE = "\N{START OF HEADING}", "\N{END OF TRANSMISSION}"
_QUESTION, _ANSWER, _SECOND, _SYSTEM = "first-question", "first-answer", "second-question", "system-text"
_TURNS: Final = (
    Message(role="user", content=_QUESTION),
    Message(role="assistant", content=_ANSWER),
    Message(role="user", content=_SECOND),
)


def detect_family(jinja: str, *, eos_token: str = "") -> Family | None:
    """The family of a Jinja template, None where it is none of those that are known.

    `eos_token` is written where the family ends a turn with its model's own end token.
    """
    found = _detect(jinja) if len(jinja) <= _MAX_JINJA_CHARS else None
    if found is None:
        return None
    eos = eos_token if eos_token and "{{" not in eos_token else _DEFAULT_EOS
    stop = tuple(dict.fromkeys(text.replace(EOS, eos) for text in found.stop))
    return Family(found.name, found.template.replace(EOS, eos), stop)


@lru_cache(maxsize=64)
def _detect(jinja: str) -> Family | None:
    template = compile_jinja(jinja, bos_token=_BOS_PROBE, eos_token=_EOS_PROBE)
    if template.has_tools or template.has_thinking:
        return None
    with RenderingProcesses(max_processes=1) as processes:  # once for each template, when a model is made of it
        found = _between_turns(_probe(template, _TURNS, processes))
        if found is None:
            return None
        with_system = _probe(template, (Message(role="system", content=_SYSTEM), *_TURNS), processes)
    return next((family for family, marks in FAMILIES if _fits(marks, found, with_system)), None)


def _probe(template: JinjaTemplate, messages: tuple[Message, ...], processes: RenderingProcesses) -> str:
    """What the template makes of this, without white space and special tokens; "" where it refuses."""
    try:
        text = template.render(Conversation(messages=messages), processes=processes)
    except BadRequestError:
        return ""
    return "".join(text.replace(_BOS_PROBE, "").replace(_EOS_PROBE, "").split())


def _between_turns(text: str) -> tuple[str, str, str, str] | None:
    """What stands before, between and after the three turns; None where they are not all there, once and in order."""
    before, _, rest = text.partition(_QUESTION)
    answer, _, rest = rest.partition(_ANSWER)
    next_user, said, end = rest.partition(_SECOND)
    is_clean = said and not any(content in part for content in (_QUESTION, _ANSWER, _SECOND) for part in (before, answer, end))
    return (before, answer, next_user, end) if is_clean else None


def _fits(marks: Marks, found: tuple[str, str, str, str], with_system: str) -> bool:
    before, answer, next_user, end = found
    if not before.endswith(marks.user) or answer != marks.answer:
        return False
    if next_user not in marks.next_user or end != (marks.end or marks.answer):
        return False
    return marks.system is None or ("<<SYS>>" in with_system) == bool(marks.system)

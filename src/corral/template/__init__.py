"""From a conversation to a prompt: Go templates, Jinja templates, and the known formats.

Pure but for one thing: Jinja templates are rendered in a process of its own, which is waited for.
"""

from corral.template.chat import ChatTemplate, Conversation
from corral.template.choose import choose
from corral.template.families import detect_family
from corral.template.formats import CHATML, Family
from corral.template.gotmpl import TemplateTooCostlyError, compile_go
from corral.template.jinja import MAX_RENDERINGS, compile_jinja, stop_renderings

__all__ = [
    "CHATML",
    "MAX_RENDERINGS",
    "ChatTemplate",
    "Conversation",
    "Family",
    "TemplateTooCostlyError",
    "choose",
    "compile_go",
    "compile_jinja",
    "detect_family",
    "stop_renderings",
]

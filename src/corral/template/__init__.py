"""From a conversation to a prompt: Go templates, Jinja templates, and the known formats.

Pure but for one thing: Jinja templates are rendered in processes of their own, which the caller holds, and are waited for.
"""

from corral.template.chat import ChatTemplate
from corral.template.choose import choose
from corral.template.conversation import Conversation
from corral.template.families import detect_family
from corral.template.formats import CHATML, Family
from corral.template.gotmpl import TemplateTooCostlyError, compile_go
from corral.template.jinja import MAX_RENDERINGS, RenderingProcesses, compile_jinja

__all__ = [
    "CHATML",
    "MAX_RENDERINGS",
    "ChatTemplate",
    "Conversation",
    "Family",
    "RenderingProcesses",
    "TemplateTooCostlyError",
    "choose",
    "compile_go",
    "compile_jinja",
    "detect_family",
]

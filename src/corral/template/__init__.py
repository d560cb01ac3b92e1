"""From a conversation to a prompt: Go templates, Jinja templates, and the known formats. Pure."""

from corral.template.chat import ChatTemplate, Conversation
from corral.template.choose import choose
from corral.template.families import detect_family
from corral.template.formats import CHATML, Family
from corral.template.gotmpl import compile_go
from corral.template.jinja import compile_jinja

__all__ = ["CHATML", "ChatTemplate", "Conversation", "Family", "choose", "compile_go", "compile_jinja", "detect_family"]

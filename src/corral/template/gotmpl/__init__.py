"""Go templates."""

from corral.template.gotmpl.budget import TemplateTooCostlyError
from corral.template.gotmpl.template import GoTemplate, compile_go

__all__ = ["GoTemplate", "TemplateTooCostlyError", "compile_go"]

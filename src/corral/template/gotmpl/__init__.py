"""Go templates."""

from corral.template.gotmpl.template import GoTemplate, compile_go

__all__ = ["GoTemplate", "compile_go"]

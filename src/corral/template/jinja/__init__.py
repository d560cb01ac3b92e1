"""Jinja templates: what one says of itself here, how it is rendered in a process of its own."""

from corral.template.jinja.process import MAX_PROCESSES as MAX_RENDERINGS
from corral.template.jinja.process import RenderingProcesses
from corral.template.jinja.template import JinjaTemplate, compile_jinja

__all__ = ["MAX_RENDERINGS", "JinjaTemplate", "RenderingProcesses", "compile_jinja"]

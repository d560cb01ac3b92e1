"""The processes that all tests of this run render their Jinja templates in. They end with the run."""

from typing import Final

from corral.template import RenderingProcesses

PROCESSES: Final = RenderingProcesses()

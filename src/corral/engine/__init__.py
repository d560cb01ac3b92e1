"""Running a model: the Protocol that engines meet, and the engines."""

from corral.engine.api import Engine, Launcher, ProgressCallback

__all__ = ["Engine", "Launcher", "ProgressCallback"]

"""Measuring which settings of the engine suit a model on this machine, and keeping the choice."""

from corral.service.tuning.service import TuneRequest, TuneService, TuneStatus

__all__ = ["TuneRequest", "TuneService", "TuneStatus"]

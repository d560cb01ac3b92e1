"""Who is loaded, for how long, and who waits for it."""

from corral.sched.queue import Line
from corral.sched.scheduler import Lease, Running, Scheduler
from corral.sched.specs import asked_for, untuned_spec
from corral.sched.tuned import TunedModels
from corral.sched.vocabularies import MOST_VOCABULARIES, LentVocabulary, Vocabularies

__all__ = [
    "MOST_VOCABULARIES",
    "Lease",
    "LentVocabulary",
    "Line",
    "Running",
    "Scheduler",
    "TunedModels",
    "Vocabularies",
    "asked_for",
    "untuned_spec",
]

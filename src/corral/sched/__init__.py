"""Who is loaded, for how long, and who waits for it."""

from corral.sched.queue import Line
from corral.sched.scheduler import Lease, Running, Scheduler

__all__ = ["Lease", "Line", "Running", "Scheduler"]

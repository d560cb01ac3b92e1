"""Answered requests as `corral bench` sees them, in milliseconds."""

from collections.abc import Sequence
from typing import Any

from corral.cli.bench.sending import Failure, Sample

_NS: int = 1_000_000


def sample(sent: float, pieces: Sequence[float], end: float, **more: Any) -> Sample:
    """A request sent, heard and ended at these milliseconds."""
    return Sample(int(sent * _NS), int(end * _NS), tuple(int(at * _NS) for at in pieces), **more)


def failed(kind: str, text: str = "", **more: Any) -> Sample:
    return Sample(0, 5 * _NS, failure=Failure(kind, text), **more)

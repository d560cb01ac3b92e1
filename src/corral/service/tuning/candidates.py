"""What is worth a try: ways to set an engine up that differ from the default in one thing each. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from corral.core.tuning import Machine, Tuned
from corral.core.types import LoadSpec

DEFAULT_NAME: Final = "default"
_BATCHES: Final = (1024, 256, 2048)
_MANY_CORES: Final = 8
_AS_IT_IS: Final = Tuned()


@dataclass(frozen=True, slots=True)
class Candidate:
    settings: Tuned = _AS_IT_IS
    is_lossy: bool = False  # it changes what the model says, by a little

    @property
    def name(self) -> str:
        return str(self.settings) if self.settings else DEFAULT_NAME

    @property
    def about(self) -> frozenset[str]:
        """The settings that it changes."""
        return frozenset(self.settings.changes())


def candidates(base: LoadSpec, machine: Machine, *, fixed: Collection[str]) -> list[Candidate]:
    """Those beside the `base`, the most promising first; none for a setting that is `fixed`."""
    found = [
        Candidate(Tuned(num_batch=_BATCHES[0])),
        *(Candidate(Tuned(most_threads=count)) for count in _thread_counts(machine)),
        Candidate(Tuned(kv_unified=True)),
        Candidate(Tuned(flash_attention=False)),
        *(Candidate(Tuned(num_batch=size)) for size in _BATCHES[1:]),
        Candidate(Tuned(kv_cache_type="q8_0"), is_lossy=True),
    ]
    return [candidate for candidate in found if not candidate.about & set(fixed) and candidate.settings.applied(base) != base]


def _thread_counts(machine: Machine) -> list[int]:
    """Fewer than there are cores, for weights that one core less reads as fast; and a second one on each core."""
    fewer = [machine.cores - 1] if machine.cores > 1 else []
    half = [machine.cores // 2] if machine.cores >= _MANY_CORES else []
    more = [machine.threads] if machine.threads > machine.cores else []
    return [*fewer, *half, *more]


def combined(chosen: Collection[Candidate]) -> Candidate:
    """All of them at once; each changes another setting."""
    changes = {name: value for candidate in chosen for name, value in candidate.settings.changes().items()}
    return Candidate(Tuned(**changes), is_lossy=any(candidate.is_lossy for candidate in chosen))  # type: ignore[arg-type]  # as they were

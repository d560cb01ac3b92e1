"""What of an engine's settings is measured for a model on a machine, and the choice that comes of it. No behaviour but that.

Stored choices are decoded into these types, so their limits are what a stored file may say.
"""

from collections.abc import Collection
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from corral.core.types import LoadSpec

KvCacheType: TypeAlias = Literal["f16", "q8_0", "q4_0", "f32", "bf16", "q5_1", "q5_0", "q4_1"]
Placement: TypeAlias = tuple[int, int, bool | None, str]


class Tuned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of a LoadSpec, under its names; None: as it is without tuning."""

    num_batch: Annotated[int, Meta(ge=1, le=1 << 16)] | None = None
    most_threads: Annotated[int, Meta(ge=1, le=512)] | None = None
    flash_attention: bool | None = None
    kv_cache_type: KvCacheType | None = None
    kv_unified: bool | None = None

    def __bool__(self) -> bool:
        return self != Tuned()

    def __str__(self) -> str:
        """For people: `num_batch 1024, kv_unified on`."""
        return ", ".join(f"{name} {_word(value)}" for name, value in self.changes().items()) or "the default settings"

    def changes(self) -> dict[str, int | bool | str]:
        """What differs from the defaults, by name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}

    def applied(self, spec: LoadSpec, *, keeps: Collection[str] = ()) -> LoadSpec:
        """The spec with these settings, but for those that it `keeps`."""
        changes = {name: value for name, value in self.changes().items() if name not in keeps}
        return msgspec.structs.replace(spec, **changes) if changes else spec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What measurements hold for: equal machines run a model equally fast."""

    cpu: str
    cores: int  # physical ones
    threads: int
    devices: tuple[str, ...]  # as the engine names them
    build: str  # of the engine's native code


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """A choice for the files of a model on a machine. It holds where nothing else about the load is set otherwise."""

    files: tuple[str, ...]  # digests: the weights, then adapters and projectors
    machine: Machine
    placement: Placement  # of the LoadSpec that it was compared with: num_gpu, main_gpu, flash_attention, kv_cache_type
    settings: Tuned
    gain: float  # how many times as fast it was
    measured_at: str


def placement_of(spec: LoadSpec) -> Placement:
    """What of a load, tuning aside, a choice was measured with."""
    return spec.num_gpu, spec.main_gpu, spec.flash_attention, spec.kv_cache_type


def _word(value: int | bool | str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)

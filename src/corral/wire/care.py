"""What a server says of its store's contents, and what it removed from it; shapes only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Bytes = Annotated[int, Meta(description="bytes")]
Kind = Annotated[
    Literal["unused", "partial", "temporary"],
    Meta(description="a whole blob that no model names; a download that can be gone on with; what a killed writer left"),
]


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a folder of files, that no model needs."""

    path: Annotated[str, Meta(description="from the store's folder on")]
    kind: Kind
    size_bytes: Bytes
    age_s: float


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes."""

    name: str
    alone_bytes: Annotated[int, Meta(description="what removing the model sets free")]
    shared_bytes: Annotated[int, Meta(description="what other models need too")]
    missing: Annotated[int, Meta(description="how many of its layers are not there")] = 0


class StoreUse(msgspec.Struct, frozen=True, kw_only=True):
    root: Annotated[str, Meta(description="the store's folder")]
    models: Annotated[list[ModelUse], Meta(description="the largest first")]
    damaged: Annotated[list[str], Meta(description="models whose manifests cannot be read")]
    used_bytes: Annotated[int, Meta(description="all layers of all models, each once")]
    leftovers: list[Leftover]


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    removed: list[Leftover] = []
    kept: list[Leftover] = []
    damaged: Annotated[
        list[str], Meta(description="models whose manifests cannot be read: while there are any, no blob goes")
    ] = []

"""What a registry and a store keep of a model: its manifest, in the form of Docker's image manifest, version 2 schema 2."""

from typing import Final

import msgspec

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A blob that a manifest names. `digest` is `sha256:` and 64 hex digits, `size` is in bytes."""

    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str
    size: int
    parent: str = msgspec.field(name="from", default="")  # the model that the layer was taken from, where there is one


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model: the blob that says what it is, and those it is made of, in order."""

    schema_version: int = msgspec.field(name="schemaVersion", default=2)
    media_type: str = msgspec.field(name="mediaType", default=MANIFEST_TYPE)
    config: Descriptor
    layers: tuple[Descriptor, ...] = ()


class TokenReply(msgspec.Struct, frozen=True):
    """What a token service gives; registries differ in which of the two names they fill."""

    token: str = ""
    access_token: str = ""

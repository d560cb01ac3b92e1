"""A registry's manifest, read with the distrust that input from elsewhere deserves."""

import re
from typing import Final

import msgspec

from corral.core.errors import RegistryError
from corral.wire.registry import Descriptor, Manifest

MAX_BLOB_BYTES: Final = 1 << 53  # what every reader of JSON can hold
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_decode: Final = msgspec.json.Decoder(Manifest).decode


def read_manifest(raw: bytes) -> Manifest:
    """The manifest in `raw`. Raises RegistryError where it is none, or names a blob that cannot be one."""
    try:
        manifest = _decode(raw)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise RegistryError(f"the registry's answer is no manifest: {exc}") from exc
    sizes: dict[str, int] = {}
    for blob in (manifest.config, *manifest.layers):
        if not _DIGEST.fullmatch(blob.digest):
            raise RegistryError(f"the manifest names a blob by {blob.digest[:200]!r}, which is no digest")
        if not 0 <= blob.size < MAX_BLOB_BYTES:
            raise RegistryError(f"the manifest gives {blob.digest} a size of {str(blob.size)[:30]} bytes")
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise RegistryError(f"the manifest gives {blob.digest} two sizes, {sizes[blob.digest]} and {blob.size} bytes")
    return manifest


def blobs_of(manifest: Manifest) -> list[Descriptor]:
    """Every blob of the model once, the layers in their order and then the config."""
    return list({blob.digest: blob for blob in (*manifest.layers, manifest.config)}.values())

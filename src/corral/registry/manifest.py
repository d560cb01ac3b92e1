"""A registry's manifest, read with the distrust that input from elsewhere deserves."""

from typing import Final

import msgspec

from corral.core.errors import BadRequestError, RegistryError
from corral.store import digest_hex
from corral.wire.registry import Descriptor, Manifest

_decode: Final = msgspec.json.Decoder(Manifest).decode


def read_manifest(raw: bytes) -> Manifest:
    """The manifest in `raw`. Raises RegistryError where it is none, or names a blob that cannot be one."""
    try:
        manifest = _decode(raw)
    except msgspec.MsgspecError as exc:
        raise RegistryError(f"the registry's answer is no manifest: {exc}") from exc
    for blob in (manifest.config, *manifest.layers):
        try:
            digest_hex(blob.digest)
        except BadRequestError as exc:
            raise RegistryError(f"the manifest names a blob by {blob.digest!r}, which is no digest") from exc
        if blob.size < 0:
            raise RegistryError(f"the manifest gives {blob.digest} a size of {blob.size} bytes")
    return manifest


def blobs_of(manifest: Manifest) -> list[Descriptor]:
    """Every blob of the model once, the layers in their order and then the config."""
    return list({blob.digest: blob for blob in (*manifest.layers, manifest.config)}.values())

"""Where things lie in a store's folder, and what their names look like there. No file is opened here.

    manifests/HOST/NAMESPACE/MODEL/TAG      one JSON line that lists a model's layers
    blobs/sha256-HEX                        a layer or a config, named by what it holds
    blobs/sha256-HEX-partial                a blob that is being fetched; a later pull goes on with it
    blobs/sha256-HEX-partial-N              what is in it so far
    blobs/.tmp-…                            a file that is being written; whoever writes it removes it
    .incoming/… .creating/…                 folders in which what will be blobs is made, each locked by who uses it
    tuned.json                              settings that were measured for models, see `tunings`
    .lock                                   held by who writes a manifest or removes a blob
Source: ollama@v0.32 manifest/paths.go.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.core.errors import BadRequestError
from corral.store.names import ModelName

TEMPORARY_PREFIX: Final = ".tmp-"  # no part of a name and no blob begins with a dot
INCOMING: Final = ".incoming"  # packages, while a model is taken out of them
CREATING: Final = ".creating"  # what is converted, quantized or merged
SCRATCH: Final = (INCOMING, CREATING)
LOCK_FILE: Final = ".lock"
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def digest_hex(text: str) -> str:
    """The 64 hex digits of a digest that is spelled `sha256:HEX` or `sha256-HEX`. Raises BadRequestError for any other."""
    found = _DIGEST.fullmatch(text)
    if not found:
        raise BadRequestError("invalid digest format")
    return found[1].lower()


def digest_of(hex_digits: str) -> str:
    """The digest as manifests and clients spell it."""
    return f"sha256:{hex_digits}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def tunings(self) -> Path:
        return self.root / "tuned.json"

    def manifest(self, name: ModelName) -> Path:
        return self.manifests.joinpath(*name.parts)

    def blob(self, digest: str) -> Path:
        """Raises BadRequestError where `digest` is none."""
        return self.blobs / f"sha256-{digest_hex(digest)}"

    def partial(self, digest: str) -> Path:
        """Where a blob lies while it is fetched. Raises BadRequestError where `digest` is none."""
        return self.blobs / f"{self.blob(digest).name}-partial"

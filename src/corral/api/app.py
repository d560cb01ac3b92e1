"""The API as one ASGI application: the route table, what stands before it, and the services behind it."""

import ipaddress
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.routing import Router
from starlette.types import ASGIApp

from corral.api import admin, anthropic, care, ollama, openai
from corral.api.middleware import AccessLog, Gatekeeper
from corral.api.openapi import Api
from corral.api.routes import not_found, routes
from corral.api.services import Services
from corral.core.settings import Settings

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def build_api(services: Services, settings: Settings, *, lifespan: Lifespan | None = None) -> ASGIApp:
    """The application, without Starlette's own error layers: each request's edge is its Endpoint.

    Of the settings it reads the address (is it local?) and the allowed origins.
    """

    def apis() -> list[Api]:
        own = [*care.operations(services.models), *admin.operations(apis)]
        return [
            Api(ollama.OLLAMA, [*ollama.operations(services), *own]),
            Api(openai.OPENAI, openai.operations(services)),
            Api(anthropic.ANTHROPIC, anthropic.operations(services)),
        ]

    router = Router(routes(apis()), redirect_slashes=False, default=not_found, lifespan=lifespan)
    checked = Gatekeeper(router, origins=settings.origins, listens_locally=is_loopback(settings.address.host))
    return AccessLog(checked)


def is_loopback(host: str) -> bool:
    """Is this listen address reachable from this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"

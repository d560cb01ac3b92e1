"""What can go wrong between Corral and a registry, and the words for it.

Texts are those of Go's http client, as Ollama shows them, because people search for them.
Two distinctions matter above this module: a registry that cannot be reached at all (another source may help),
and a failure that may pass (worth another try). Everything else is final.
"""

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from corral.core.errors import RegistryError

if TYPE_CHECKING:
    import aiohttp


class RegistryTransientError(RegistryError):
    """The next try may work: a cut or stalled connection, 429 or a 5xx. `wait_s` is the registry's own wish."""

    def __init__(self, text: str, *, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class RegistryUnreachableError(RegistryTransientError):
    """No HTTP answer could be had: no such host, nobody listens, no way through."""


def translate(exc: "aiohttp.ClientError | TimeoutError", url: str) -> RegistryError:
    """The registry error for what aiohttp raised on a GET of `url`."""
    kind, text = _no_connection(exc, urlsplit(url).netloc) or _broken(exc)
    return kind(f'Get "{without_query(url)}": {text}')


def without_query(url: str) -> str:
    """The URL as it may be shown: a signature in its query is as good as a key."""
    return url.partition("?")[0]


def _no_connection(exc: Exception, host: str) -> tuple[type[RegistryError], str] | None:
    import aiohttp

    match exc:
        case aiohttp.ClientProxyConnectionError():
            return RegistryUnreachableError, f"proxyconnect tcp: {_dial(exc)}"
        case aiohttp.ClientHttpProxyError():
            return RegistryUnreachableError, f"the proxy refused: {exc.status} {exc.message}"
        case aiohttp.ClientConnectorDNSError():
            return RegistryUnreachableError, f"dial tcp: lookup {exc.host}: no such host"
        case aiohttp.ClientConnectorCertificateError():
            return RegistryError, f"tls: failed to verify certificate: {_reason(exc.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return RegistryUnreachableError, _tls(exc.os_error)
        case aiohttp.ClientConnectorError():
            return RegistryUnreachableError, _dial(exc)
        case aiohttp.ConnectionTimeoutError():
            return RegistryUnreachableError, f"dial tcp {host}: i/o timeout"
    return None


def _broken(exc: Exception) -> tuple[type[RegistryError], str]:
    import aiohttp

    match exc:
        case TimeoutError():
            return RegistryTransientError, "the server stopped sending: i/o timeout"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return RegistryTransientError, "unexpected EOF"
        case OSError():
            return RegistryTransientError, (exc.strerror or str(exc)).lower()
    return RegistryTransientError, str(exc) or type(exc).__name__


def _dial(exc: "aiohttp.ClientConnectorError") -> str:
    """Go's words for a connection that was not made."""
    host = f"[{exc.host}]" if ":" in exc.host else exc.host
    cause = exc.os_error
    if isinstance(cause, ConnectionRefusedError):
        reason = "connection refused"
    elif isinstance(cause, TimeoutError):
        return f"dial tcp {host}:{exc.port}: i/o timeout"
    else:
        reason = (cause.strerror or str(cause)).lower()
    return f"dial tcp {host}:{exc.port}: connect: {reason}"


def _tls(cause: OSError) -> str:
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {_reason(cause)}"


def _reason(exc: Exception) -> str:
    return getattr(exc, "verify_message", "") or getattr(exc, "reason", "") or str(exc)

"""What can go wrong between Corral and a registry, and the words for it.

Texts are those of Go's http client, as Ollama shows them, because people search for them.
Two distinctions matter above this module: a registry that cannot be reached at all (another source may help),
and a failure that may pass (worth another try). Everything else is final.
"""

import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

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


class DigestMismatchError(RegistryError):
    """All bytes are there, and they are not those that were promised."""


def translate(exc: "aiohttp.ClientError | TimeoutError", url: str, *, method: str = "GET") -> RegistryError:
    """The registry error for what aiohttp raised on a request of `url`."""
    kind, text = _no_connection(exc, urlsplit(url).netloc.rpartition("@")[2]) or _broken(exc)
    return kind(f'{method.title()} "{shown_url(url)}": {text}')


def shown_url(url: str) -> str:
    """The URL as it may be shown: a signature in its query is as good as a key, and so is a password before its host.

    >>> shown_url("https://me:secret@a.example/blob?signature=x")
    'https://a.example/blob'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0][:200]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def first_of(group: ExceptionGroup[Exception]) -> Exception:
    """The error to show of several that came at once: the disk's or a surprise rather than one of the registry's."""
    registry, other = group.split(RegistryError)
    final, _ = (registry or group).split(lambda exc: not isinstance(exc, (RegistryTransientError, ExceptionGroup)))
    found: Exception = other or final or registry or group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found


def retry_after_s(header: str, now_s: float) -> float:
    """What a Retry-After header asks for, in seconds from now; 0 where it asks for nothing that can be read.

    >>> retry_after_s("7", 0.0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 20.0), retry_after_s("soon", 0.0)
    (7.0, 40.0, 0.0)
    """
    text = header.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return 0.0


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

"""Which proxy a URL goes through, from the usual environment variables: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.

NO_PROXY is read as Go programs read it, Ollama among them: names with all that is below them, addresses, networks, ports, `*`;
and this machine is never reached through a proxy.
Source: golang.org/x/net/http/httpproxy, Config.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


class ProxyRules:
    """The proxy settings of one environment. Names in lower case win over those in capitals, as in curl."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._proxies = {
            scheme: value
            for scheme in ("http", "https", "all", "no")
            if (value := env.get(f"{scheme}_proxy", env.get(f"{scheme.upper()}_PROXY", "")).strip())
        }
        self._direct = [entry for entry in self._proxies.get("no", "").lower().replace(",", " ").split() if entry]

    def proxy_for(self, url: str) -> str | None:
        """The proxy's URL; None: go there directly. Raises ValueError for what cannot be a URL.

        >>> rules = ProxyRules({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "box.example,.internal,10.0.0.0/8"})
        >>> rules.proxy_for("https://registry.example/v2/"), rules.proxy_for("https://box.internal/v2/")
        ('http://proxy.example:3128', None)
        >>> rules.proxy_for("https://10.1.2.3/v2/"), rules.proxy_for("https://localhost:5000/v2/")
        (None, None)
        """
        if not self._proxies:
            return None
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if not proxy or _is_this_machine(host) or any(_matches(entry, host, port) for entry in self._direct):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _is_this_machine(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if _network_has(entry, host):
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and "/" not in entry and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        entry = name
    if _address(entry.strip("[]")):
        return _address(entry.strip("[]")) == _address(host)
    name = entry.removeprefix("*").lstrip(".")
    return bool(name) and (host.endswith(f".{name}") or (host == name and not entry.startswith((".", "*"))))


def _network_has(entry: str, host: str) -> bool:
    address = _address(host)
    if address is None or "/" not in entry:
        return False
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

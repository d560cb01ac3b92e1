"""Which proxy a URL goes through, from the usual environment variables: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""

from collections.abc import Mapping
from urllib.parse import urlsplit


class ProxyRules:
    """The proxy settings of one environment. Names in lower case win over those in capitals, as in curl."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._proxies = {
            scheme: value
            for scheme in ("http", "https", "all", "no")
            if (value := env.get(f"{scheme}_proxy", env.get(f"{scheme.upper()}_PROXY", "")).strip())
        }

    def proxy_for(self, url: str) -> str | None:
        """The proxy's URL; None: go there directly.

        >>> rules = ProxyRules({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "localhost,.internal"})
        >>> rules.proxy_for("https://registry.example/v2/"), rules.proxy_for("https://box.internal/v2/")
        ('http://proxy.example:3128', None)
        """
        if not self._proxies:
            return None
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed does not know it

        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], self._proxies):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

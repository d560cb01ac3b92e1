import pytest

from corral.registry.proxies import ProxyRules

HTTP = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("env", "url", "proxy"),
    [
        pytest.param({}, "https://a.example/x", None, id="none"),
        pytest.param({"https_proxy": HTTP}, "https://a.example/x", HTTP, id="lower-case"),
        pytest.param({"HTTPS_PROXY": HTTP}, "https://a.example/x", HTTP, id="capitals"),
        pytest.param({"HTTPS_PROXY": "http://no", "https_proxy": HTTP}, "https://a.example/x", HTTP, id="lower-case-wins"),
        pytest.param({"HTTPS_PROXY": HTTP}, "http://a.example/x", None, id="other-scheme"),
        pytest.param({"ALL_PROXY": HTTP}, "http://a.example/x", HTTP, id="all"),
        pytest.param({"HTTPS_PROXY": "proxy.example:3128"}, "https://a.example/x", HTTP, id="no-scheme"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": ".example"}, "https://a.example/x", None, id="no-proxy-suffix"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "*"}, "https://a.example/x", None, id="no-proxy-all"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "a.example:5000"}, "https://a.example:5000/x", None, id="no-proxy-port"),
    ],
)
def test_proxy_for_follows_the_environment(env: dict[str, str], url: str, proxy: str | None) -> None:
    assert ProxyRules(env).proxy_for(url) == proxy

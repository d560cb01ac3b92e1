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
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "a.example:443"}, "https://a.example/x", None, id="no-proxy-own-port"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "a.example:80"}, "https://a.example/x", HTTP, id="no-proxy-other-port"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "example"}, "https://a.example/x", None, id="no-proxy-parent"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "a.example"}, "https://ba.example/x", HTTP, id="no-proxy-same-ending"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": ".a.example"}, "https://a.example/x", HTTP, id="no-proxy-only-below"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "A.EXAMPLE"}, "https://a.Example/x", None, id="no-proxy-any-case"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "10.1.0.0/16"}, "https://10.1.2.3:9/x", None, id="no-proxy-network"),
        pytest.param(
            {"HTTPS_PROXY": HTTP, "NO_PROXY": "10.1.0.0/16"}, "https://10.2.2.3:9/x", HTTP, id="no-proxy-other-network"
        ),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "10.1.2.3"}, "https://10.1.2.3/x", None, id="no-proxy-address"),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": "2001:db8::1"}, "https://[2001:db8::1]/x", None, id="no-proxy-v6"),
        pytest.param(
            {"HTTPS_PROXY": HTTP, "NO_PROXY": "[2001:db8::1]:444"}, "https://[2001:db8::1]/x", HTTP, id="no-proxy-v6-port"
        ),
        pytest.param(
            {"HTTPS_PROXY": HTTP, "NO_PROXY": "b.example, a.example"}, "https://a.example/x", None, id="no-proxy-list"
        ),
        pytest.param({"HTTPS_PROXY": HTTP, "NO_PROXY": ",,/,:5,."}, "https://a.example/x", HTTP, id="no-proxy-rubbish"),
        pytest.param({"ALL_PROXY": HTTP}, "http://localhost:5000/x", None, id="localhost"),
        pytest.param({"ALL_PROXY": HTTP}, "http://127.1.2.3/x", None, id="loopback"),
        pytest.param({"ALL_PROXY": HTTP}, "http://[::1]:5000/x", None, id="loopback-v6"),
    ],
)
def test_proxy_for_follows_the_environment(env: dict[str, str], url: str, proxy: str | None) -> None:
    assert ProxyRules(env).proxy_for(url) == proxy

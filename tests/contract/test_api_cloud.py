"""Ollama's account and cloud, which Corral has not: the answers of an Ollama whose cloud is switched off."""

import pytest

from tests.contract.conftest import Rig

JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        pytest.param("GET", "/api/status", 200, '{"cloud":{"disabled":true,"source":"config"}}', id="status"),
        pytest.param("GET", "/api/experimental/model-recommendations", 200, '{"recommendations":[]}', id="recommendations"),
        pytest.param("POST", "/api/me", 401, '{"error":"unauthorized"}', id="me"),
        pytest.param("POST", "/api/signout", 401, '{"error":"you are not currently signed in"}', id="signout"),
        pytest.param("DELETE", "/api/user/keys/a2V5", 401, '{"error":"you are not currently signed in"}', id="key"),
        pytest.param(
            "POST",
            "/api/experimental/web_search",
            403,
            '{"error":"ollama cloud is disabled: web search is unavailable"}',
            id="web search",
        ),
        pytest.param(
            "POST",
            "/api/experimental/web_fetch",
            403,
            '{"error":"ollama cloud is disabled: web fetch is unavailable"}',
            id="web fetch",
        ),
    ],
)
async def test_there_is_no_cloud_and_no_account(empty: Rig, method: str, path: str, status: int, text: str) -> None:
    reply = await empty.http.request(method, path)
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (status, JSON, text)

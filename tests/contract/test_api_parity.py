"""The table of endpoints in the documents: it names every route of Ollama's and OpenAI's API, and tests that there are."""

import re
from pathlib import Path

from tests.contract.conftest import Rig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "parity-api.md").read_text()


async def test_the_table_names_every_route(empty: Rig) -> None:
    rows = re.findall(r"^\| `([A-Z, ]+) (/\S*)` \|", PAGE, re.MULTILINE)
    named = {
        (method, path) for methods, path in rows for method in methods.split(", ") if methods != "GET, HEAD" or method == "GET"
    }
    paths = (await empty.http.get("/openapi.json")).json()["paths"]
    served = {
        (method.upper(), path)
        for path, methods in paths.items()
        if path == "/" or path.startswith(("/api/", "/v1/"))
        for method in methods
    }
    assert named == served


def test_the_table_names_tests_that_there_are() -> None:
    tests = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", PAGE)
    assert len(tests) > 40
    for file, function in tests:
        path = ROOT / "tests" / (file if "/" in file else f"contract/{file}")
        assert path.exists(), file
        assert f"def {function}" in path.read_text(), (file, function)

from typing import Any

import pytest

from corral.core.errors import BadRequestError, NotSupportedError
from corral.service.create_checks import check_remote, config_changes, required_version
from corral.service.create_sources import is_local

BAD_INFO: list[tuple[dict[str, Any], str]] = [
    ({"model_family": 1}, 'info field "model_family" must be a string'),
    ({"base_name": None}, 'info field "base_name" must be a string'),
    ({"quantization_level": []}, 'info field "quantization_level" must be a string'),
    ({"parameter_size": 7}, 'info field "parameter_size" must be a string'),
    ({"context_length": "4096"}, 'info field "context_length" must be a number'),
    ({"context_length": True}, 'info field "context_length" must be a number'),
    ({"context_length": -1}, 'info field "context_length" must be a non-negative integer'),
    ({"context_length": 1.5}, 'info field "context_length" must be a non-negative integer'),
    ({"embedding_length": 1e300}, 'info field "embedding_length" must be a non-negative integer'),
    ({"embedding_length": float("inf")}, 'info field "embedding_length" must be a non-negative integer'),
    ({"embedding_length": float("nan")}, 'info field "embedding_length" must be a non-negative integer'),
    ({"capabilities": "tools"}, 'info field "capabilities" must be an array of strings'),
    ({"capabilities": ["tools", 1]}, 'info field "capabilities" element 1 must be a string'),
]


@pytest.mark.parametrize(("info", "text"), BAD_INFO, ids=[str(info) for info, _ in BAD_INFO])
def test_config_changes_refuses_wrong_types(info: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        config_changes(info)
    assert str(caught.value) == text


def test_config_changes_can_take_a_family_away() -> None:
    assert config_changes({"model_family": "", "unknown": object()}) == {"model_family": "", "model_families": None}
    assert config_changes({}) == {}


@pytest.mark.parametrize("text", ["0.14.0", "1", "1.2", "v1.2.3", "1.2.3-rc.1+build"])
def test_required_version_takes_versions(text: str) -> None:
    assert required_version(text) == text.removeprefix("v")


@pytest.mark.parametrize("text", ["soon", "1.", "01.2.3", "1.2.3.4", "v", " 1.2", "1.2 "])
def test_required_version_refuses_the_rest(text: str) -> None:
    with pytest.raises(BadRequestError, match="semver"):
        required_version(text)


@pytest.mark.parametrize("host", ["http://", "://x", "http://[::1", "host:port", "host:99999", "a b"])
def test_bad_remote_is_refused(host: str) -> None:
    with pytest.raises(BadRequestError, match=r"^bad remote$"):
        check_remote(host, has_draft=True)


def test_remote_model_is_not_supported() -> None:
    check_remote("", has_draft=True)
    with pytest.raises(NotSupportedError, match="models that run on other"):
        check_remote("http://other:11434/path", has_draft=False)
    with pytest.raises(BadRequestError, match=r"^DRAFT cannot be used with remote models$"):
        check_remote("other", has_draft=True)


@pytest.mark.parametrize("path", ["a.gguf", "a/b.gguf", "é" * 100, "a..b", ".hidden"])
def test_local_paths(path: str) -> None:
    assert is_local(path)


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a/./b", "a//b", "a/", "..\\a", "\\a", "a\0b", "é" * 200, "a/" * 600 + "b", "."]
)
def test_paths_that_leave_the_folder_or_cannot_be(path: str) -> None:
    assert not is_local(path)

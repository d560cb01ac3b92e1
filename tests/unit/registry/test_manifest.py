import json

import pytest

from corral.core.errors import RegistryError
from corral.registry import blobs_of, read_manifest

HEX = "ab" * 32
CONFIG = {"mediaType": "c", "digest": f"sha256:{HEX}", "size": 3}


def manifest(**changes: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": "m", "config": CONFIG, "layers": [], **changes}).encode()


def test_read_manifest_keeps_order_and_names_each_blob_once() -> None:
    one = {"mediaType": "a", "digest": "sha256:" + "1" * 64, "size": 1}
    two = {"mediaType": "b", "digest": "sha256:" + "2" * 64, "size": 2, "from": "elsewhere"}
    found = read_manifest(manifest(layers=[two, one, two]))
    assert [layer.media_type for layer in found.layers] == ["b", "a", "b"]
    assert [blob.size for blob in blobs_of(found)] == [2, 1, 3]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"<html>", "is no manifest", id="html"),
        pytest.param(b"{}", "is no manifest", id="no-config"),
        pytest.param(manifest(layers=[{**CONFIG, "digest": "sha256:../../etc"}]), "is no digest", id="digest-climbs"),
        pytest.param(manifest(config={**CONFIG, "size": -1}), "size of -1", id="negative-size"),
    ],
)
def test_read_manifest_refuses(raw: bytes, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        read_manifest(raw)

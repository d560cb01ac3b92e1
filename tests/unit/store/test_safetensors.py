import json
import struct
from pathlib import Path
from typing import Any

import pytest

from corral.store import SafetensorsError, read_safetensors


def tensor(dtype: str = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_header_gives_names_types_and_places(tmp_path: Path) -> None:
    tensors = {"a": tensor(), "b": tensor("BF16", (), (24, 26)), "c": tensor("F4", (3, 2), (26, 29))}
    path = tmp_path / "a"
    path.write_bytes(packed({"__metadata__": {"format": "pt"}, **tensors}, data=bytes(29)))
    header = read_safetensors(path)
    assert header.parameter_count == 6 + 1 + 6
    assert header.tensors["b"].shape == ()
    with path.open("rb") as file:
        file.seek(header.data_start)
        assert len(file.read()) == 29


def packed(header: Any, *, length: int | None = None, data: bytes = bytes(24)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {
    "empty": (b"", "0 bytes"),
    "short": (struct.pack("<Q", 2) + b"{", "truncated"),
    "longer-than-the-file": (packed(b"{}", length=3, data=b""), "a header of 3"),
    "length-2^63": (packed(b"{}", length=2**63), "a header of 9223372036854775808"),
    "length-2^64": (packed(b"{}", length=2**64 - 1), "truncated"),
    "no-json": (packed(b"hello, world"), "no JSON object"),
    "json-list": (packed([]), "no JSON object"),
    "deep": (packed(b"[" * 200_000), "no JSON object"),
    "deep-inside": (packed(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "damaged"),
    "not-utf-8": (packed(b'{"\xff":{}}'), "no JSON object"),
    "no-tensor": (packed({"a": 1}), "tensor 'a'"),
    "no-offsets": (packed({"a": {"dtype": "F32", "shape": []}}), "tensor 'a'"),
    "three-offsets": (packed({"a": tensor(offsets=(0, 1, 2))}), "tensor 'a'"),
    "unknown-type": (packed({"a": tensor("Q9")}), "unknown type 'Q9'"),
    "negative-shape": (packed({"a": tensor(shape=(-2, -3))}), "impossible shape"),
    "many-dimensions": (packed({"a": tensor(shape=(1,) * 99)}), "impossible shape"),
    "beyond-the-end": (packed({"a": tensor(offsets=(0, 25))}), "lies outside"),
    "2^64-values": (packed({"a": tensor(shape=(2**62, 4))}), "which is not its shape"),
    "2^63-offsets": (packed({"a": tensor(offsets=(2**63 - 24, 2**63 - 1))}), "lies outside"),
    "backwards": (packed({"a": tensor(offsets=(24, 0))}), "lies outside"),
    "too-few-bytes": (packed({"a": tensor(offsets=(0, 20))}), "which is not its shape"),
    "long-name": (packed({"x" * 10_000: tensor(offsets=(0, 20))}), "…"),
}


@pytest.mark.parametrize(("content", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_header_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(SafetensorsError) as caught:
        read_safetensors(tmp_path / "a")
    assert text in str(caught.value)
    assert len(str(caught.value)) < 500

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral.store import GgufError, GgufInfo, Shard, merge_shards, order_shards, read_header, read_info, shard_count
from tests.support.gguf_files import write_scripted


def shards_of(folder: Path, *, tensors: int = 5) -> list[Shard]:
    write_scripted(folder / "tiny.gguf", "Hello there!", split_tensors=tensors)
    return [Shard(path.name, path, read_info(path)) for path in sorted(folder.glob("tiny-*.gguf"))]


def test_shards_become_the_file_that_was_split(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shards = shards_of(tmp_path / "shards")
    whole = write_scripted(tmp_path / "whole.gguf", "Hello there!")
    assert [shard_count(shard.info) for shard in shards] == [3, 3, 3]
    *_, checksum = merge_shards(order_shards(shards[::-1]), tmp_path / "merged.gguf")

    merged, expected = read_header(tmp_path / "merged.gguf", with_arrays=True), read_header(whole, with_arrays=True)
    assert merged == expected
    assert "split.count" not in merged.metadata
    for ours, theirs in zip(gguf.GGUFReader(tmp_path / "merged.gguf").tensors, gguf.GGUFReader(whole).tensors, strict=True):
        assert np.array_equal(ours.data, theirs.data)
    assert len(checksum.hexdigest()) == 64


def test_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    *_, checksum = merge_shards(shards_of(tmp_path), tmp_path / "merged.gguf")
    assert checksum.hexdigest() == hashlib.sha256((tmp_path / "merged.gguf").read_bytes()).hexdigest()


def info(*, count: int = 2, number: int = 0, architecture: str = "llama", **more: Any) -> GgufInfo:
    metadata: Mapping[str, Any] = {"split.count": count, "split.no": number, **more}
    return GgufInfo(architecture=architecture, metadata=metadata)


def shard(name: str, **more: Any) -> Shard:
    return Shard(name, Path("/nowhere"), info(**more))


FIRST = shard("a-00001-of-00002.gguf")
BAD = {
    "one-is-missing": ([FIRST], "of 2 shards 1 are missing, number 2 first"),
    "twice": ([FIRST, shard("b/a-00001-of-00002.gguf")], "are the same shard"),
    "no-split-name": ([shard("a.gguf"), FIRST], "a.gguf is not named NAME-00001-of-00002.gguf"),
    "name-says-another-number": ([shard("a-00002-of-00002.gguf")], "is not the shard that its name says"),
    "name-says-another-count": ([shard("a-00001-of-00003.gguf")], "is not the shard that its name says"),
    "counts-differ": ([FIRST, shard("a-00002-of-00003.gguf", count=3, number=1)], "is not the shard that its name says"),
    "too-many": ([shard("a-00001-of-60000.gguf", count=60_000)], "claims 60000 shards; 1024 is the most"),
    "two-models": ([FIRST, shard("b-00002-of-00002.gguf", number=1)], "are not of one model"),
    "two-architectures": ([FIRST, shard("a-00002-of-00002.gguf", number=1, architecture="gemma3")], "is gemma3, not llama"),
}


@pytest.mark.parametrize(("shards", "text"), BAD.values(), ids=BAD.keys())
def test_order_shards_refuses_what_is_no_whole_model(shards: list[Shard], text: str) -> None:
    with pytest.raises(GgufError, match=f"^invalid split GGUF: .*{text}"):
        order_shards(shards)


@pytest.mark.parametrize("count", [0, 1, -3, "2", True, 2.0], ids=repr)
def test_shard_count_is_one_for_a_whole_file(count: object) -> None:
    assert shard_count(info(count=count)) == 1  # type: ignore[arg-type]  # what a damaged file may say


def test_same_tensor_twice_and_a_wrong_count_are_refused(tmp_path: Path) -> None:
    first, second, third = shards_of(tmp_path)
    with pytest.raises(GgufError, match="two shards have the same tensor"):
        list(merge_shards([first, first, third], tmp_path / "a"))
    with pytest.raises(GgufError, match="have 10 tensors together and should have 12"):
        list(merge_shards([first, second], tmp_path / "b"))
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_truncated_shard_is_refused(tmp_path: Path) -> None:
    shards = shards_of(tmp_path)
    data = shards[1].path.read_bytes()
    shards[1].path.write_bytes(data[:-40])
    with pytest.raises(GgufError, match="truncated"):
        list(merge_shards(shards, tmp_path / "a"))


@pytest.mark.parametrize("alignment", [0, 48, 4_000_000_000])
def test_shard_of_a_false_alignment_is_refused_before_anything_is_written(tmp_path: Path, alignment: int) -> None:
    key = {"general.alignment": alignment}
    write_scripted(tmp_path / "tiny.gguf", "Hello there!", split_tensors=5, metadata=key)
    shards = [Shard(path.name, path, info()) for path in sorted(tmp_path.glob("tiny-*.gguf"))]
    with pytest.raises(GgufError, match="alignment"):
        list(merge_shards(shards, tmp_path / "merged.gguf"))
    assert not (tmp_path / "merged.gguf").exists()


def test_merge_that_is_given_up_closes_its_files(tmp_path: Path) -> None:
    steps = merge_shards(shards_of(tmp_path), tmp_path / "a")
    next(steps)
    steps.close()
    assert (tmp_path / "a").exists()  # whoever asked removes it

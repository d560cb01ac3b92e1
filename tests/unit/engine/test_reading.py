import numpy as np
import pytest

from corral.engine.llamacpp.worker.embed.reading import POOLS, Pooling, Reading, sizes

WHOLE = Reading("mean", keeps=False, reads_whole=True)
PIECES = Reading("mean", keeps=True, reads_whole=False)


@pytest.mark.parametrize(
    ("how", "room", "vocabulary", "wanted"),
    [
        pytest.param(WHOLE, 1, 30_522, (256, 256), id="short"),
        pytest.param(WHOLE, 256, 30_522, (256, 256), id="as long as a step"),
        pytest.param(WHOLE, 257, 30_522, (512, 512), id="longer"),
        pytest.param(WHOLE, 1500, 30_522, (2048, 2048), id="much longer"),
        pytest.param(WHOLE, 1, 500_000, (134, 134), id="large vocabulary"),
        pytest.param(WHOLE, 135, 500_000, (256, 256), id="longer with it"),
        pytest.param(PIECES, 1, 49_152, (256, 512), id="in pieces"),
        pytest.param(PIECES, 8000, 49_152, (256, 8256), id="a long text in pieces"),
        pytest.param(PIECES, 1, 5_000_000, (32, 64), id="in pieces with a huge vocabulary"),
    ],
)
def test_sizes(how: Reading, room: int, vocabulary: int, wanted: tuple[int, int]) -> None:
    assert sizes(how, room=room, vocabulary_size=vocabulary) == wanted


@pytest.mark.parametrize("cuts", [[7], [1, 6], [3, 3, 1], [1] * 7], ids=str)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_the_same_however_the_text_is_cut(pooling: Pooling, cuts: list[int]) -> None:
    rows = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    wanted = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling]
    pool = POOLS[pooling]()
    table = rows.copy()
    begin = 0
    for size in cuts:
        pool.take(table[begin : begin + size])
        table[begin : begin + size] = np.nan  # llama.cpp writes over it
        begin += size
    assert pool.vector() == pytest.approx(wanted, abs=1e-6)

"""Saved sequences for another count of streams: bytes as llama.cpp writes them, made by hand."""

import struct

import pytest

from corral.engine.llamacpp.worker.batch.states import refit

HEAD = struct.pack("<Ii", 0xAF143CD8, 3)


def cache(*, streams: int, stream: int, cells: int = 5, layers: int = 2, row_bytes: int = 8, is_transposed: int = 0) -> bytes:
    """One cache whose cells are all in `stream`."""
    body = b"".join(struct.pack("<iIi", position, 1, stream) for position in range(cells))
    body += struct.pack("<II", is_transposed, layers)
    for part in range(2 * layers):
        body += struct.pack("<iQ", 1, row_bytes) + bytes([part + 1]) * (row_bytes * cells)
    empty = bytes(4)
    return struct.pack("<I", streams) + empty * stream + struct.pack("<I", cells) + body + empty * (streams - stream - 1)


@pytest.mark.parametrize("stream", [0, 1, 3])
@pytest.mark.parametrize("streams", [1, 2, 16])
def test_refit_moves_the_cells_to_the_first_of_so_many_streams(stream: int, streams: int) -> None:
    found = refit(HEAD + cache(streams=4, stream=stream), streams)
    expected = (
        struct.pack("<I", streams) + cache(streams=stream + 1, stream=stream)[4 + 4 * stream :] + bytes(4 * (streams - 1))
    )
    assert found == HEAD + expected


def test_refit_takes_every_cache_of_the_model() -> None:
    one, two = cache(streams=2, stream=1, cells=5), cache(streams=2, stream=1, cells=3)
    found = refit(HEAD + one + two, 1)
    assert found == HEAD + b"".join(struct.pack("<I", 1) + part[8:] for part in (one, two))


def test_refit_keeps_a_cache_without_cells() -> None:
    assert refit(HEAD + struct.pack("<I", 2) + bytes(8), 3) == HEAD + struct.pack("<I", 3) + bytes(12)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(b"", id="empty"),
        pytest.param(HEAD[:6], id="half-a-head"),
        pytest.param(b"GGUF" + HEAD[4:] + cache(streams=2, stream=0), id="other-magic"),
        pytest.param(HEAD + cache(streams=2, stream=0)[:-6], id="cut"),
        pytest.param(HEAD + cache(streams=2, stream=0) + b"\1", id="more-behind"),
        pytest.param(HEAD + cache(streams=2, stream=0, is_transposed=1), id="transposed-values"),
        pytest.param(
            HEAD + cache(streams=2, stream=0).replace(struct.pack("<iIi", 0, 1, 0), struct.pack("<iIi", 0, 2, 0)),
            id="shared-cells",
        ),
    ],
)
def test_refit_gives_up_on_what_it_does_not_know(state: bytes) -> None:
    assert refit(state, 4) is None


@pytest.mark.parametrize("kept", range(1, len(HEAD + cache(streams=2, stream=1)), 7))
def test_refit_gives_up_on_a_state_that_is_cut_anywhere(kept: int) -> None:
    whole = HEAD + cache(streams=2, stream=1)
    assert refit(whole[:kept], 4) is None or kept == len(HEAD)


def test_refit_there_and_back_gives_the_same_bytes() -> None:
    state = HEAD + cache(streams=2, stream=0) + cache(streams=2, stream=0, cells=3)
    there = refit(state, 16)
    assert there
    assert refit(there, 2) == state


def test_refit_reads_cells_of_models_with_more_than_one_dimension() -> None:
    def more(state: bytes, cells: int) -> bytes:
        at = state.index(struct.pack("<iI", 0, 1))
        old = state[at : at + 12 * cells]
        new = b"".join(old[i : i + 8] + struct.pack("<iii", 7, i, 300) + old[i + 8 : i + 12] for i in range(0, len(old), 12))
        return state[:at] + new + state[at + len(old) :]

    found = refit(HEAD + more(cache(streams=4, stream=1), 5), 2)
    assert found == HEAD + more(struct.pack("<I", 2) + cache(streams=2, stream=1)[8:] + bytes(4), 5)

"""States cut into payloads and joined again, on bytes in llama.cpp's own form."""

from typing import Any

import numpy as np
import pytest

from corral.engine.llamacpp.worker.batch.states import Saved, read, refit, rows
from corral.engine.llamacpp.worker.cache.payloads import Payload, cut, joined, payload_bytes, pieces
from tests.support.toy_states import WINDOW, StateToy, cache_tokens

TOKENS = [*range(300, 450)]


def saved(kind: Any = "plain", **more: Any) -> Saved:
    context = StateToy(4, 1024, kind=kind, **more)
    context.kv[2] = list(TOKENS)
    state = context.save(2)
    assert isinstance(state, Saved)
    return state


def blocks(state: Saved, size: int = 64) -> list[tuple[int, Payload]]:
    read = pieces(state, len(TOKENS))
    assert read
    form, caches, tail = read
    ends = [*range(size, len(TOKENS), size), len(TOKENS)]
    return [
        (begin, cut(form, [[piece] for piece in caches], begin, end, tail if end == len(TOKENS) else b""))
        for begin, end in zip([0, *ends], ends, strict=False)
    ]


@pytest.mark.parametrize("is_transposed", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 150])
def test_any_beginning_of_a_state_is_had_from_its_blocks(count: int, streams: int, is_transposed: bool) -> None:
    parts = [part for part in blocks(saved(is_transposed=is_transposed)) if part[0] < count]
    state = joined(parts, count, streams)
    assert state.streams == streams
    assert cache_tokens(state, 0) == (0, TOKENS[:count])


def test_all_blocks_make_the_bytes_that_they_were_cut_from() -> None:
    state = saved()
    fitting = refit(state.data.data, 1)
    assert fitting is not None
    whole = joined(blocks(state), len(TOKENS), 1).data.tobytes()
    assert whole[:20] == fitting[:4] + bytes(4) + fitting[8:20]  # the number of the sequence is of no use to anyone
    assert len(whole) == len(fitting)


def test_a_window_has_the_last_cells_only() -> None:
    parts = blocks(saved("window"))
    assert [payload.skipped for _, payload in parts] == [(0, 64), (0, 46), (0, 0)]
    state = joined(parts, 150, 2)
    assert cache_tokens(state, 1) == (150 - WINDOW, TOKENS[-WINDOW:])


@pytest.mark.parametrize("kind", ["recurrent", "hybrid"])
def test_a_state_that_is_no_list_of_cells_comes_behind_the_last_token(kind: str) -> None:
    state = saved(kind)
    again = joined(blocks(state), len(TOKENS), 4)
    context = StateToy(4, 1024, kind=kind)  # type: ignore[arg-type]  # one of them
    assert context.restore(0, again)
    assert context.kv[0] == TOKENS


def test_a_payload_takes_what_it_says() -> None:
    for _, payload in blocks(saved("window")):
        assert payload.size_bytes == payload_bytes(payload.form, payload.count, payload.skipped)


def test_a_payload_of_many_bytes_can_be_written_to() -> None:
    form, caches, _ = pieces(saved(), len(TOKENS)) or pytest.fail("the state is of a known form")
    assert cut(form, [caches], 0, 64).data.flags.writeable


def test_cells_that_lie_in_another_order_are_sorted() -> None:
    """In one buffer for all sequences a sequence takes the cells that are free."""
    state = saved()
    data = state.data.copy()
    cache = (read(data.data) or pytest.fail("the state is of a known form"))[0]
    order = np.random.default_rng(0).permutation(len(TOKENS))
    cells = data[cache.begin + 4 :][: 12 * len(TOKENS)].reshape(-1, 12)
    cells[:] = cells[order]
    for band in cache.bands:
        view = rows(data, band, len(TOKENS))
        view[:] = view[:, order].copy()
    assert cache_tokens(joined(blocks(Saved(4, data)), 100, 4), 0) == (0, TOKENS[:100])


@pytest.mark.parametrize("count", [149, 10])
def test_a_state_of_more_cells_than_tokens_is_not_read(count: int) -> None:
    assert pieces(saved(), count) is None


def test_a_state_of_another_form_is_not_read() -> None:
    state = saved()
    assert pieces(Saved(state.streams, state.data[:-3]), len(TOKENS)) is None

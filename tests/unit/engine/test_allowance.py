import pytest

from corral.core.settings import KV_CACHE_TYPES
from corral.engine import KV_BYTES_PER_VALUE
from corral.engine.llamacpp.worker.allowance import Allowance


@pytest.mark.parametrize(
    ("limit", "free", "left"),
    [
        pytest.param(0, 50, 50, id="no limit"),
        pytest.param(100, 50, 40, id="limit"),
        pytest.param(100, 30, 30, id="less is free"),
        pytest.param(40, 50, -20, id="beyond it already"),
    ],
)
def test_left_is_what_is_free_within_the_limit(limit: int, free: int, left: int) -> None:
    assert Allowance(limit, taken_bytes=lambda: 60).left_of(free) == left


def test_every_type_of_cells_that_may_be_set_has_a_size() -> None:
    assert set(KV_BYTES_PER_VALUE) == set(KV_CACHE_TYPES)

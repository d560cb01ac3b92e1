"""When a step is filled up with tokens of idle sequences, on kernels whose speed is made up."""

import pytest

from corral.engine.llamacpp.worker.batch.filling import Filling


@pytest.mark.parametrize(
    ("running", "gaps", "extra"),
    [
        pytest.param(16, 0, 0, id="whole tiles need nothing"),
        pytest.param(15, 0, 1, id="one row to the next tile"),
        pytest.param(13, 0, 3, id="three rows to the next tile"),
        pytest.param(15, 1, 1, id="closing the gap makes whole tiles"),
        pytest.param(14, 1, 2, id="the gap and one more"),
        pytest.param(8, 3, 4, id="whole tiles with gaps are filled up too"),
        pytest.param(6, 4, 0, id="too many gaps"),
        pytest.param(1, 0, 0, id="a single stream"),
        pytest.param(3, 0, 0, id="too few"),
    ],
)
def test_fills_up_to_whole_tiles(running: int, gaps: int, extra: int) -> None:
    assert Filling().wanted(running, gaps) == extra


def choices(filling: Filling, bare_s: float, filled_s: float, steps: int) -> list[bool]:
    made = []
    for _ in range(steps):
        made.append(is_filled := filling.is_worth_it(15, 0))
        filling.learn(15, 0, filled_s if is_filled else bare_s, is_filled=is_filled)
    return made


def test_fills_where_that_is_quicker() -> None:
    made = choices(Filling(), bare_s=0.037, filled_s=0.030, steps=300)
    assert made.count(True) > 0.95 * len(made)


def test_leaves_it_where_it_is_not() -> None:
    made = choices(Filling(), bare_s=0.030, filled_s=0.031, steps=300)
    assert made.count(False) > 0.95 * len(made)


def test_changes_its_mind_when_the_machine_does() -> None:
    filling = Filling()
    choices(filling, bare_s=0.030, filled_s=0.037, steps=100)
    made = choices(filling, bare_s=0.037, filled_s=0.030, steps=600)
    assert made[-1]


def test_a_step_that_waited_for_another_process_decides_nothing() -> None:
    filling = Filling()
    choices(filling, bare_s=0.037, filled_s=0.030, steps=50)
    filling.learn(15, 0, 2.0, is_filled=True)
    assert filling.is_worth_it(15, 0)


def test_each_number_of_streams_is_measured_by_itself() -> None:
    filling = Filling()
    choices(filling, bare_s=0.037, filled_s=0.030, steps=50)
    assert not filling.is_worth_it(13, 0)

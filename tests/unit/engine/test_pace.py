"""How long drafts are, by what they promise and what steps take."""

from itertools import pairwise
from random import Random

import pytest

from corral.engine.llamacpp.worker.speculation.hopes import Hopes, general_rates
from corral.engine.llamacpp.worker.speculation.lookup import WIDTHS
from corral.engine.llamacpp.worker.speculation.pace import MOST, SIZES, Pace, passes

TILES = {rows: 5.0 * (rows // 4 * 1.4 + rows % 4) for rows in range(1, 65)}  # a CPU's: four rows for little more than one
FLAT = dict.fromkeys(range(1, 65), 5.0)  # a GPU's
LINEAR = {rows: 5.0 * rows for rows in range(1, 65)}


def gains(chance: float, size: int = MOST) -> list[float]:
    return [sum(chance**at for at in range(1, count + 1)) for count in range(size + 1)]


def settled(costs: dict[int, float], chance: float, *, streams: int = 1, steps: int = 200) -> list[int]:
    """The drafts of so many steps, each of which takes as long as it does there."""
    pace, sizes = Pace(), list[int]()
    for _ in range(steps):
        size = pace.size([gains(chance)] * streams, streams, plain=streams, most=streams + MOST, is_even=True)
        sizes.append(size)
        pace.learn(streams * (1 + size), costs[streams * (1 + size)] / 1000)
    return sizes


@pytest.mark.parametrize(
    ("costs", "chance", "usual"),
    [
        (TILES, 0.95, 3),
        (TILES, 0.6, 3),
        (TILES, 0.05, 0),
        (FLAT, 0.95, 31),
        (LINEAR, 0.9, 0),
        (LINEAR, 0.1, 0),
    ],
    ids=["tiles-copy", "tiles-some", "tiles-free", "flat-copy", "linear-copy", "linear-free"],
)
def test_draft_is_as_long_as_pays(costs: dict[int, float], chance: float, usual: int) -> None:
    sizes = settled(costs, chance)[100:]
    assert sizes.count(usual) >= 90
    assert set(sizes) <= {0, *SIZES}


def test_drafts_that_never_pay_are_tried_ever_more_rarely() -> None:
    sizes = settled(LINEAR, 0.9, steps=4000)
    assert sum(map(bool, sizes[:400])) <= 60
    assert sum(map(bool, sizes[2000:])) <= 20


def test_many_streams_that_fill_the_machine_draft_nothing() -> None:
    full = {rows: 2.0 * rows for rows in range(1, 300)}
    assert sum(map(bool, settled(full, 0.9, streams=8))) <= 8


def test_nothing_is_drafted_before_a_step_without_was_measured() -> None:
    assert Pace().size([gains(1.0)], 1, plain=1, most=16, is_even=True) == 0


def test_draft_stays_within_what_a_step_holds_and_what_was_guessed() -> None:
    pace = Pace()
    for rows in (1, 1, 2, 2):
        pace.learn(rows, 0.01)
    assert pace.size([gains(0.9)], 1, plain=1, most=5, is_even=True) == 3
    assert pace.size([gains(0.9, 2)], 1, plain=1, most=16, is_even=True) == 2
    assert pace.size([gains(0.9)] * 2, 2, plain=2, most=9, is_even=True) == 3


def test_draft_comes_back_when_a_busy_machine_is_free_again() -> None:
    pace, sizes = Pace(), list[int]()
    for step in range(3000):
        size = pace.size([gains(0.9)], 1, plain=1, most=16, is_even=True)
        sizes.append(size)
        pace.learn(1 + size, (LINEAR if step < 500 else TILES)[1 + size] / 1000)
    assert sum(map(bool, sizes[400:500])) <= 10
    assert sum(map(bool, sizes[2000:])) >= 900


def test_step_without_draft_is_measured_now_and_then() -> None:
    sizes = settled(FLAT, 0.95, steps=2000)
    assert 3 <= sizes[100:].count(0) <= 20


@pytest.mark.parametrize(
    ("drafts", "is_even", "expected"),
    [
        ([0], True, [1]),
        ([3], True, [4]),
        ([3, 3], True, [8]),
        ([3, 0, 0], True, [3, 3]),
        ([5, 2, 0], True, [3, 4, 3]),
        ([5, 2, 0], False, [10]),
    ],
)
def test_passes_are_what_llama_cpp_makes_of_a_step(drafts: list[int], is_even: bool, expected: list[int]) -> None:
    assert passes(drafts, is_even=is_even) == expected


def test_uneven_drafts_of_streams_that_share_a_pass_do_not_pay_on_a_cpu() -> None:
    pace = Pace()
    for rows, cost in FLAT.items():
        for _ in range(3):
            pace.learn(rows, cost)
    alone = [gains(0.95)]
    assert pace.size(alone, 12, plain=12, most=27, is_even=True) == 0
    assert pace.size(alone, 12, plain=12, most=27, is_even=False) > 0


@pytest.mark.parametrize("seed", range(20))
def test_draft_is_never_made_where_the_measured_time_says_no(seed: int) -> None:
    random = Random(seed)
    costs = {rows: random.uniform(1, 4) * rows**0.5 for rows in range(1, 33)}
    pace = Pace()
    for rows, cost in costs.items():
        for _ in range(3):
            pace.learn(rows, cost)
    hope = gains(random.random())
    size = pace.size([hope], 1, plain=1, most=32, is_even=True)
    rates = {size: (1 + hope[size]) / costs[1 + size] for size in (0, *SIZES)}
    best = max(rates, key=lambda size: rates[size])
    assert size == (best if rates[best] > 1.05 * rates[0] else 0)


# What guesses are worth


def test_hopes_follow_what_became_of_guesses() -> None:
    general = general_rates()
    hopes = Hopes(general)
    fresh = hopes.gains(2, 3)
    for _ in range(30):
        hopes.learn(2, 3, 3)
    assert hopes.gains(2, 3)[-1] > 2.5 > fresh[-1]
    for _ in range(60):
        hopes.learn(2, 0, 3)
    assert hopes.gains(2, 3)[-1] < fresh[-1]


def test_one_answer_counts_more_for_itself_than_for_others() -> None:
    general = general_rates()
    ours, theirs = Hopes(general), Hopes(general)
    ours.learn(2, 0, 1)
    assert ours.gains(2, 1)[1] < theirs.gains(2, 1)[1] < Hopes(general_rates()).gains(2, 1)[1]


def test_longer_match_promises_more_and_more_tokens_never_less() -> None:
    hopes = Hopes(general_rates())
    by_width = [hopes.gains(width, MOST) for width in WIDTHS]
    assert all(a[-1] < b[-1] for a, b in pairwise(by_width))
    assert all(a < b for gain in by_width for a, b in pairwise(gain))


def test_token_behind_the_first_wrong_one_says_nothing() -> None:
    hopes = Hopes(general_rates())
    before = hopes.gains(24, 2)
    hopes.learn(12, 0, 15)
    assert hopes.gains(24, 2) == before

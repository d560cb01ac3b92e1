"""Whose turn it is: earlier priorities first, but not for ever; clients by what they were served; each in its own order."""

from itertools import islice

import pytest

from corral.core.fairness import MOST_PASSES, Accounts, FairLine


def line_of(*items: tuple[str, str, int]) -> FairLine[str]:
    line: FairLine[str] = FairLine()
    for name, client, priority in items:
        line.add(name, client, priority)
    return line


def served(line: FairLine[str], cost: float = 1) -> list[str]:
    """All, as they come to their turns, each at the same cost."""
    order: list[str] = []
    while line:
        item = next(line.order())
        client, _ = line.where(item)
        line.take(item)
        line.accounts.charge(client, cost)
        order.append(item)
    return order


def test_one_client_is_served_in_the_order_of_arrival() -> None:
    names = [f"{number}" for number in range(20)]
    assert served(line_of(*((name, "a", 0) for name in names))) == names


def test_clients_take_turns() -> None:
    line = line_of(("a1", "a", 0), ("a2", "a", 0), ("a3", "a", 0), ("b1", "b", 0), ("b2", "b", 0))
    assert served(line) == ["a1", "b1", "a2", "b2", "a3"]


def test_client_that_cost_more_waits_for_the_others_to_have_had_as_much() -> None:
    line = line_of(*((f"{client}{number}", client, 0) for client in "ab" for number in range(4)))
    line.take("a0")
    line.accounts.charge("a", 3)
    assert served(line)[:4] == ["b0", "b1", "b2", "a1"]


def test_client_that_was_served_alone_owes_nothing_to_one_that_comes() -> None:
    line = line_of(*((f"a{number}", "a", 0) for number in range(50)))
    for number in range(40):
        line.take(f"a{number}")
        line.accounts.charge("a", 1000)
    for number in range(3):
        line.add(f"b{number}", "b", 0)
    assert served(line, cost=1000)[:5] == ["b0", "a40", "b1", "a41", "b2"]


def test_client_that_comes_back_has_saved_up_no_claim() -> None:
    line = line_of(("b0", "b", 0))
    line.take("b0")
    for number in range(30):
        line.add(f"a{number}", "a", 0)
        line.take(f"a{number}")
        line.accounts.charge("a", 100)
    for number in range(4):
        line.add(f"again a{number}", "a", 0)
        line.add(f"again b{number}", "b", 0)
    assert sum(name.startswith("again b") for name in served(line, cost=100)[:4]) == 2


def test_earlier_priority_goes_first() -> None:
    line = line_of(("late", "a", 5), ("usual", "a", 0), ("early", "a", -1))
    assert served(line) == ["early", "usual", "late"]


def test_later_priority_is_passed_over_so_often_and_no_oftener() -> None:
    line = line_of(("late 1", "a", 9), ("late 2", "a", 9), *((f"{number}", "b", 0) for number in range(3 * MOST_PASSES)))
    order = served(line)
    assert [order.index("late 1"), order.index("late 2")] == [MOST_PASSES, 2 * MOST_PASSES + 1]


def test_take_tells_whose_turn_was_overdue() -> None:
    line = line_of(("late", "a", 9), *((f"{number}", "b", 0) for number in range(MOST_PASSES)))
    assert not any(line.take(item) for item in list(islice(line.order(), MOST_PASSES)))
    assert line.take("late")


def test_what_goes_on_comes_before_all_others_of_its_priority() -> None:
    line = line_of(("waits", "b", 0), ("early", "b", -1))
    line.accounts.charge("a", 1000)
    line.add("goes on", "a", 0, is_resumed=True)
    assert served(line) == ["early", "goes on", "waits"]


@pytest.mark.parametrize("is_resumed", [False, True], ids=["waits", "goes-on"])
def test_what_leaves_leaves_no_gap(is_resumed: bool) -> None:
    line = line_of(("first", "a", 0))
    line.add("leaves", "b", 0, is_resumed=is_resumed)
    line.add("last", "b", 0)
    assert line.discard("leaves")
    assert not line.discard("leaves")
    assert len(line) == 2
    assert served(line) == ["first", "last"]


def test_heads_are_the_first_of_each_client_and_priority() -> None:
    line = line_of(("a1", "a", 0), ("a2", "a", 0), ("b1", "b", 0), ("a3", "a", 1), ("a4", "a", 1))
    assert list(line.heads()) == ["a1", "b1", "a3"]


def test_clients_without_number_are_not_remembered_for_ever() -> None:
    accounts = Accounts()
    for number in range(5000):
        accounts.come(str(number))
        accounts.charge(str(number), 7)
    assert accounts.used("0") == 0
    assert accounts.used("4999") == 7

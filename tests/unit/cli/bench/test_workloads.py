import json
from dataclasses import replace

import pytest

from corral.cli.bench.command import WORKLOADS
from corral.cli.bench.sources import Conversations, Fresh
from corral.cli.bench.texts import drawing, filler, inventory, question
from corral.cli.bench.workloads import KINDS, LONG_PROMPT, Ask, Message, long_prompt


def ask(name: str, key: str, index: int) -> Ask:
    return KINDS[name].draw(KINDS[name].shape, key, index)


def said(one: Ask) -> str:
    return "".join(message.content for message in one.messages) + "".join(one.inputs)


def test_the_command_line_names_every_workload() -> None:
    assert set(WORKLOADS) == set(KINDS)


@pytest.mark.parametrize("name", WORKLOADS)
def test_requests_are_the_same_for_the_same_key_and_no_other(name: str) -> None:
    assert ask(name, "1/0", 3) == ask(name, "1/0", 3)
    assert said(ask(name, "1/0", 3)) != said(ask(name, "1/1", 3))
    assert said(ask(name, "1/0", 3)) != said(ask(name, "1/0", 4))


@pytest.mark.parametrize("tokens", [1, 2, 13, 14, 100, 1300])
def test_filler_has_as_many_words_and_stops_as_tokens_are_wanted(tokens: int) -> None:
    text = filler(drawing("a", tokens), tokens)
    assert abs(len(text.split()) + text.count(".") - tokens) <= 1


def test_questions_share_no_beginning() -> None:
    assert len({question(drawing("seed", index))[:6] for index in range(100)}) == 100


def test_an_inventory_has_lines_to_change_and_lines_to_leave() -> None:
    text, old, new = inventory(drawing(1), 400)
    lines = text.splitlines()
    assert len(lines) == 21
    assert 0 < sum(old in line for line in lines) < len(lines)
    assert new not in text


def test_prefix_requests_share_all_but_the_question() -> None:
    kind = KINDS["prefix"]
    first, second = ask("prefix", "k", 0), ask("prefix", "k", 1)
    assert first.messages[0] == second.messages[0] == Message("system", first.messages[0].content)
    assert first.messages[1] != second.messages[1]
    assert kind.before
    before = kind.before(kind.shape, "k", 0)
    assert before.messages[0] == first.messages[0]
    assert before.messages[1] not in (first.messages[1], second.messages[1])
    assert ask("prefix", "another", 0).messages[0].content[:40] != first.messages[0].content[:40]


def test_mixed_prompts_have_every_length_equally_often_in_changing_order() -> None:
    groups = [ask("mixed", "k", index).group for index in range(40)]
    rounds = [groups[at : at + 4] for at in range(0, 40, 4)]
    assert all(sorted(turn) == sorted(rounds[0]) for turn in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_the_schema_is_one_that_an_answer_can_be_short_for() -> None:
    schema = ask("json", "k", 0).schema
    assert json.loads(json.dumps(schema)) == schema
    assert '"maxLength"' in json.dumps(schema)


def test_a_long_prompt_is_told_apart_and_answered_shortly() -> None:
    one = long_prompt(KINDS["long"].shape, "k", 0)
    assert (one.group, one.max_tokens) == (LONG_PROMPT, 16)
    assert len(said(one).split()) > 2700


async def test_fresh_requests_end_after_their_count() -> None:
    source = Fresh(KINDS["chat"], KINDS["chat"].shape, "k", 2)
    assert [await source.take() is None for _ in range(3)] == [False, False, True]


async def test_a_turn_takes_up_what_was_answered() -> None:
    source = Conversations(KINDS["turns"], replace(KINDS["turns"].shape, conversations=1, turns=3), "k")
    first = await source.take()
    assert first
    source.answered(first, "Well.")
    second = await source.take()
    assert second
    assert second.messages[:2] == (*first.messages, Message("assistant", "Well."))
    source.answered(second, None)  # failed: as if it had not been sent
    third = await source.take()
    assert third
    assert third.messages[:2] == second.messages[:2]
    assert third.messages[2] != second.messages[2]
    assert await source.take() is None


async def test_turns_of_conversations_come_in_random_order_that_is_the_same_for_a_key() -> None:
    async def order(key: str) -> list[int]:
        source = Conversations(KINDS["turns"], replace(KINDS["turns"].shape, conversations=5, turns=4), key)
        numbers = []
        while one := await source.take():
            numbers.append(one.conversation)
            source.answered(one, "Yes.")
        return numbers

    assert await order("a") == await order("a") != await order("b")
    assert sorted(await order("a")) == sorted([*range(5)] * 4)

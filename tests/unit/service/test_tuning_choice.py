"""From measurements to a choice: what is tried, how much is asked, and what counts as a gain."""

import pytest

from corral.core.errors import EngineError, ModelLoadError
from corral.core.tuning import Machine, Tuned
from corral.core.types import LoadSpec
from corral.service.tuning.candidates import Candidate, candidates, combined
from corral.service.tuning.choosing import best_of_each, compared, objection
from corral.service.tuning.contest import Contest
from corral.service.tuning.sizing import Pace, cost_s, sized
from corral.wire.tuning import Speeds

BASE = LoadSpec(model_path="m", n_ctx=4096, n_parallel=16)
DEFAULT, BATCH, UNIFIED = Candidate(), Candidate(Tuned(num_batch=1024)), Candidate(Tuned(kv_unified=True))
SMALL, LOSSY = Candidate(Tuned(num_batch=256)), Candidate(Tuned(kv_cache_type="q8_0"), is_lossy=True)
FEWER = Candidate(Tuned(most_threads=1))


def machine(cores: int = 4, threads: int = 4) -> Machine:
    return Machine(cpu="c", cores=cores, threads=threads, devices=("CPU",), build="1")


def speeds(prompt: float = 100, alone: float = 100, together: float = 100, forks: float = 100) -> Speeds:
    return Speeds(prompt=prompt, alone=alone, together=together, forks=forks)


def flat(value: float) -> Speeds:
    return speeds(value, value, value, value)


# What is tried


def test_candidates_differ_from_the_base_in_one_setting_each() -> None:
    found = candidates(BASE, machine(), fixed=())
    assert all(len(one.about) == 1 for one in found)
    assert len({one.name for one in found}) == len(found)
    assert {name for one in found for name in one.about} == set(Tuned.__struct_fields__)


def test_no_candidate_changes_what_somebody_chose() -> None:
    found = candidates(BASE, machine(), fixed={"num_batch", "kv_cache_type", "flash_attention"})
    assert {name for one in found for name in one.about} == {"most_threads", "kv_unified"}


def test_what_the_base_has_already_is_no_candidate() -> None:
    base = Tuned(num_batch=1024, kv_unified=True).applied(BASE)
    names = [one.name for one in candidates(base, machine(), fixed=())]
    assert "num_batch 1024" not in names
    assert "kv_unified on" not in names


@pytest.mark.parametrize(
    ("cores", "threads", "counts"),
    [(1, 1, []), (2, 2, [1]), (4, 8, [3, 8]), (16, 32, [15, 8, 32])],
    ids=["one-core", "two", "two-threads-a-core", "many"],
)
def test_numbers_of_threads_follow_from_the_machine(cores: int, threads: int, counts: list[int]) -> None:
    found = candidates(BASE, machine(cores, threads), fixed=())
    assert [one.settings.most_threads for one in found if "most_threads" in one.about] == counts


def test_a_combination_has_all_settings_and_changes_answers_if_one_does() -> None:
    assert combined([BATCH, UNIFIED]) == Candidate(Tuned(num_batch=1024, kv_unified=True))
    assert combined([BATCH, LOSSY]).is_lossy


# What counts as a gain


def test_a_gain_in_every_round_is_one() -> None:
    assert objection(compared([flat(110), flat(108)], [flat(100), flat(100)])) == ""


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ([flat(102), flat(102), flat(102)], "gains nothing"),
        ([flat(80), flat(80), flat(80)], "is slower"),
        ([flat(130), flat(120), flat(95)], "gains less than the rounds differ"),
        ([speeds(prompt=200, forks=80)] * 3, "is slower at several answers behind one prompt"),
    ],
    ids=["too-little", "slower", "noise", "one-figure-pays"],
)
def test_what_speaks_against_a_candidate_is_said(mine: list[Speeds], words: str) -> None:
    assert objection(compared(mine, [flat(100)] * 3)) == words


def test_a_ratio_is_to_the_default_of_the_same_round() -> None:
    found = compared([flat(50), flat(100)], [flat(40), flat(80)])  # the machine was half as fast in the first round
    assert found.scores == pytest.approx((1.25, 1.25))


def test_the_best_value_of_each_setting_is_chosen_and_lossy_ones_only_where_allowed() -> None:
    default = [flat(100)] * 2
    gains = {BATCH: 110, SMALL: 120, UNIFIED: 105, LOSSY: 150, FEWER: 104, DEFAULT: 100}
    found = {one: compared([flat(value)] * 2, default) for one, value in gains.items()}
    assert best_of_each(found, allow_lossy=False) == [SMALL, UNIFIED, FEWER]
    assert best_of_each(found, allow_lossy=True) == [LOSSY, SMALL, UNIFIED, FEWER]
    assert best_of_each(found, allow_lossy=False, is_disturbed=True) == [SMALL, UNIFIED]


# How much is asked


def test_a_quick_model_is_asked_for_all() -> None:
    load, count = sized(Pace(0.3, 800, 200), budget_s=180, rounds=3, candidates=8, num_ctx=4096, streams=8)
    assert (load.rounds, load.prompt_tokens, load.answer_tokens, count) == (3, 1500, 32, 8)


def test_a_slow_model_is_asked_for_less_and_still_fits() -> None:
    pace = Pace(3, 60, 8)
    load, count = sized(pace, budget_s=600, rounds=3, candidates=8, num_ctx=4096, streams=8)
    assert load.prompt_tokens < 1500
    assert cost_s(load, pace) * load.rounds * (count + 1) <= 600


def test_the_slowest_model_has_a_candidate_beside_the_default() -> None:
    load, count = sized(Pace(60, 1, 0.1), budget_s=10, rounds=5, candidates=8, num_ctx=4096, streams=8)
    assert (load.rounds, count) == (2, 2)


def test_a_small_context_is_not_overrun() -> None:
    load, _ = sized(Pace(0, 1e6, 1e6), budget_s=100, rounds=1, candidates=2, num_ctx=256, streams=8)
    assert load.prompt_tokens + load.answer_tokens + 8 <= 256


# The rounds


class Field:
    """Runs a contest over speeds that are written down."""

    def __init__(self, *those: Candidate, rounds: int = 3, quiet: bool = True, measurements: int = 1000) -> None:
        self.order: list[str] = []
        self.told: list[tuple[str, int, int]] = []
        self.speeds: dict[Candidate, float | EngineError] = {}
        self.left = measurements

        async def is_quiet() -> bool:
            return quiet

        self.contest = Contest(
            those, rounds, self._measure, lambda: self.left <= 0, lambda *told: self.told.append(told), is_quiet
        )

    async def _measure(self, candidate: Candidate) -> Speeds:
        self.left -= 1
        self.order.append(candidate.name)
        value = self.speeds.get(candidate, 100)
        if isinstance(value, EngineError):
            raise value
        return flat(value)


async def test_candidates_take_turns_in_beginning_a_round() -> None:
    field = Field(DEFAULT, BATCH, UNIFIED)
    await field.contest.run()
    names = ["default", "num_batch 1024", "kv_unified on"]
    assert field.order == [*names, *names[1:], names[0], names[2], *names[:2]]
    assert field.told[0] == ("measuring default, round 1 of 3", 0, 9)
    assert field.told[-1] == ("measuring num_batch 1024, round 3 of 3", 8, 9)


async def test_a_candidate_that_cannot_be_loaded_is_left_out() -> None:
    field = Field(DEFAULT, BATCH)
    field.speeds[BATCH] = ModelLoadError("no flash attention")
    await field.contest.run()
    assert field.contest.failed == {BATCH: "no flash attention"}
    assert list(field.contest.found()) == [DEFAULT]
    assert field.order.count("num_batch 1024") == 1


async def test_where_the_default_fails_all_does() -> None:
    field = Field(DEFAULT, BATCH)
    field.speeds[DEFAULT] = EngineError("out of memory")
    with pytest.raises(EngineError, match="out of memory"):
        await field.contest.run()


async def test_a_hopeless_candidate_is_measured_once() -> None:
    field = Field(DEFAULT, BATCH, UNIFIED)
    field.speeds[UNIFIED] = 40
    await field.contest.run()
    assert field.order.count("kv_unified on") == 1
    assert field.contest.found()[UNIFIED].score == pytest.approx(0.4)


async def test_a_round_that_was_cut_short_does_not_count() -> None:
    field = Field(DEFAULT, BATCH, measurements=5)
    field.speeds[BATCH] = 120
    await field.contest.run()
    assert len(field.order) == 5
    assert field.contest.is_decided
    assert field.contest.found()[BATCH].scores == pytest.approx((1.2, 1.2))


async def test_one_round_of_several_decides_nothing() -> None:
    field = Field(DEFAULT, BATCH, measurements=3)
    await field.contest.run()
    assert not field.contest.is_decided


async def test_other_programs_are_noticed() -> None:
    field = Field(DEFAULT, quiet=False)
    await field.contest.run()
    assert field.contest.is_disturbed


def test_settings_are_told_in_words() -> None:
    assert str(Tuned()) == "the default settings"
    assert (
        str(Tuned(num_batch=256, flash_attention=False, kv_unified=True)) == "num_batch 256, flash_attention off, kv_unified on"
    )

from io import StringIO
from typing import Any

import pytest

from corral.cli.client import Json
from corral.cli.tune import TuneProgress, summary

SPEEDS = {"prompt": 812.4, "alone": 19.96, "together": 402.0, "forks": 300.0}
LOAD = {"rounds": 3, "prompt_tokens": 1500, "own_prompt_tokens": 93, "answer_tokens": 32, "streams": 8}


def report(**more: Any) -> Json:
    results = [
        {"name": "default", "settings": {}, "speeds": SPEEDS, "ratios": SPEEDS, "score": 1.0, "least": 1.0, "greatest": 1.0},
        {
            "name": "num_batch 1024",
            "settings": {"num_batch": 1024},
            "speeds": SPEEDS,
            "ratios": SPEEDS,
            "score": 1.104,
            "least": 1.05,
            "greatest": 1.2,
            "verdict": "gains",
        },
        {"name": "flash_attention off", "settings": {"flash_attention": False}, "verdict": "failed: no"},
    ]
    chosen = {"model": "m:latest", "load": LOAD, "results": results, "chosen": {}, "why": "nothing gains", "is_stored": False}
    return chosen | {"is_disturbed": False} | more


def test_the_table_has_a_row_for_each_and_says_what_was_asked() -> None:
    text = summary(report())
    assert text.splitlines()[:4] == [
        "SETTINGS               PROMPT    ALONE    TOGETHER    FORKS    RATIO",
        "default                812       20.0     402         300      1",
        "num_batch 1024         812       20.0     402         300      1.10 (1.05-1.20)    gains",
        "flash_attention off    -         -        -           -        -                   failed: no",
    ]
    assert "reading 1500 tokens" in text
    assert text.endswith("\nm:latest keeps the default settings: nothing gains.\n")


@pytest.mark.parametrize(
    ("is_stored", "verb"), [(True, "is loaded with"), (False, "would be loaded with")], ids=["stored", "dry"]
)
def test_a_choice_is_told_with_its_reason(is_stored: bool, verb: str) -> None:
    chosen = {"num_batch": 1024, "kv_unified": True}
    text = summary(report(chosen=chosen, why="it gains most", is_stored=is_stored))
    assert text.endswith(f"\nm:latest {verb} num_batch 1024, kv_unified on: it gains most.\n")


def test_figures_from_a_busy_machine_come_with_a_warning() -> None:
    assert summary(report(is_disturbed=True)).endswith(
        "Other programs used the machine meanwhile: measure again when it is quiet.\n"
    )


def test_a_log_has_a_line_for_each_measurement() -> None:
    out = StringIO()
    with TuneProgress(out) as shown:
        shown.update({"status": "loading m:latest"})
        shown.update({"status": "measuring default, round 1 of 3", "total": 24})
        shown.update({"status": "measuring num_batch 1024, round 1 of 3", "total": 24, "completed": 1})
        shown.update({"status": "success"})
    assert out.getvalue().splitlines() == [
        "loading m:latest",
        "measuring default, round 1 of 3 (1 of 24)",
        "measuring num_batch 1024, round 1 of 3 (2 of 24)",
    ]

from collections.abc import Mapping
from typing import Any

import click
import pytest

from corral.cli import main
from corral.cli.serve import SETTINGS
from corral.cli.usage import Command, Flag, Switch, UsageError
from corral.core.settings import Settings


def parsed(*args: str) -> Mapping[str, Any]:
    """What a command with one flag of each kind makes of these arguments."""
    command = Command(
        "try",
        lambda **_: None,
        usage="try WORD",
        summary="Try",
        flags=[
            Flag("--think", default="", bare_value="true"),
            Flag("--keepalive", default=""),
            Flag("-v", "--verbose", is_flag=True),
            Flag("--dimensions", type=int, default=0),
            Switch("--truncate"),
        ],
        at_least=1,
        at_most=2,
    )
    return command.make_context("try", list(args)).params


@pytest.mark.parametrize(
    ("args", "want"),
    [
        pytest.param(["x", "--think", "why"], {"words": ("x", "why"), "think": "true"}, id="bare-think-leaves-the-prompt"),
        pytest.param(["x", "--think=high"], {"think": "high"}, id="think-with-level"),
        pytest.param(["x", "--verbose=false"], {"verbose": False}, id="go-boolean-false"),
        pytest.param(["x", "--verbose=true"], {"verbose": True}, id="go-boolean-true"),
        pytest.param(["-v", "x", "--keepalive", "5m"], {"words": ("x",), "keepalive": "5m", "verbose": True}, id="mixed"),
        pytest.param(["x", "--dimensions", "4"], {"dimensions": 4, "truncate": None}, id="number"),
        pytest.param(["x", "--truncate", "y"], {"words": ("x", "y"), "truncate": True}, id="switched-on"),
        pytest.param(["x", "--truncate=false"], {"truncate": False}, id="switched-off"),
        pytest.param(["x", "--", "--think"], {"words": ("x", "--think"), "think": ""}, id="after-two-dashes-all-is-text"),
    ],
)
def test_command_reads_gos_spellings(args: list[str], want: Mapping[str, Any]) -> None:
    got = parsed(*args)
    assert {name: got[name] for name in want} == want


@pytest.mark.parametrize(
    ("args", "text"),
    [
        pytest.param([], "requires at least 1 arg(s), only received 0", id="too-few"),
        pytest.param(["a", "b", "c"], "accepts at most 2 arg(s), received 3", id="too-many"),
        pytest.param(["a", "--what"], "unknown flag: --what", id="unknown-flag"),
        pytest.param(["a", "-x"], "unknown shorthand flag: 'x' in -x", id="unknown-letter"),
        pytest.param(["a", "--keepalive"], "flag needs an argument: --keepalive", id="no-value"),
        pytest.param(
            ["a", "--dimensions", "x"],
            "invalid argument for \"--dimensions\" flag: 'x' is not a valid integer",
            id="no-number",
        ),
        pytest.param(
            ["a", "--verbose=what"], 'invalid argument "what" for "--verbose" flag: must be true or false', id="no-truth"
        ),
    ],
)
def test_command_refuses_in_ollamas_words(args: list[str], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parsed(*args)
    assert str(refused.value) == text


def test_every_command_of_the_table_loads_and_has_its_summary() -> None:
    root, context = main.Root("corral"), click.Context(click.Command("corral"))
    for name, entry in {**main.COMMANDS, **main.ABSENT}.items():
        command = root.get_command(context, name)
        assert command is not None
        assert (command.name, command.summary) == (name, entry.summary)
    for alias, name in main.ALIASES.items():
        assert root.get_command(context, alias) is root.get_command(context, name)


class ReadNames(dict[str, str]):
    """An environment that remembers which names it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return default


def test_serve_help_names_every_setting_that_is_read() -> None:
    env = ReadNames()
    Settings.from_env(env)
    assert {name.removeprefix("OLLAMA_") for name in env.names if name.startswith("OLLAMA_")} == set(SETTINGS)

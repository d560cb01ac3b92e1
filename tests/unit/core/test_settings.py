"""Settings come from the environment; Corral's own names win over Ollama's."""

import math
from pathlib import Path

import pytest

from corral.core.settings import Settings, SettingsError


def test_defaults_are_ollamas() -> None:
    settings = Settings.from_env({"HOME": "/home/u"})
    assert settings.address.url == "http://127.0.0.1:11434"
    assert settings.models == Path("/home/u/.corral/models")
    assert settings.extra_stores == (Path("/home/u/.ollama/models"),)
    assert settings.keep_alive_s == 300
    assert settings.max_queue == 512


def test_corral_names_win_over_ollama_names() -> None:
    env = {"CORRAL_HOST": ":5000", "OLLAMA_HOST": "1.2.3.4", "OLLAMA_MODELS": "/o", "CORRAL_MODELS": "/c"}
    settings = Settings.from_env(env)
    assert settings.address.url == "http://0.0.0.0:5000"
    assert settings.models == Path("/c")


def test_a_chosen_store_is_the_only_one() -> None:
    assert Settings.from_env({"HOME": "/home/u", "OLLAMA_MODELS": "/o"}).extra_stores == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-1", math.inf), ("0", 0.0), ("90", 90.0), ("1h", 3600.0), ("'5m'", 300.0)],
)
def test_keep_alive_takes_durations_and_seconds(text: str, seconds: float) -> None:
    assert Settings.from_env({"OLLAMA_KEEP_ALIVE": text}).keep_alive_s == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_MAX_QUEUE", "many"),
        ("CORRAL_NUM_PARALLEL", "-3"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
        ("OLLAMA_KV_CACHE_TYPE", "q9"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        Settings.from_env({name: value})


@pytest.mark.parametrize("value", ["a:b:c:d:e", "foo bar", "box/a b", "a\\b"])
def test_a_host_that_is_none_is_named(value: str) -> None:
    with pytest.raises(SettingsError, match="invalid host"):
        Settings.from_env({"OLLAMA_HOST": value + "x"})

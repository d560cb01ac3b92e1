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


@pytest.mark.parametrize(("value", "ignored"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_images_are_refused_unless_they_are_to_be_ignored(value: str, ignored: bool) -> None:
    assert Settings.from_env({"CORRAL_IGNORE_IMAGES": value}).ignore_images == ignored


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


@pytest.mark.parametrize(
    ("text", "mirrors"),
    [
        ("", {}),
        ("hf.co=mirror.example", {"hf.co": "https://mirror.example"}),
        ("HF.co=http://box:5000/hf/", {"hf.co": "http://box:5000/hf"}),
        ("a=b, c=http://d", {"a": "https://b", "c": "http://d"}),
        ("box:5000=https://[::1]:5001", {"box:5000": "https://[::1]:5001"}),
    ],
    ids=["none", "host", "url", "two", "ports"],
)
def test_mirrors_are_pairs_of_a_host_and_a_url(text: str, mirrors: dict[str, str]) -> None:
    assert Settings.from_env({"CORRAL_REGISTRY_MIRROR": text}).registry_mirrors == mirrors


@pytest.mark.parametrize("pair", ["mirror.example", "=https://b", "a=", "a=ftp://b", "a=https://[b", "a=https://b?x=1"])
def test_a_mirror_that_is_none_is_named(pair: str) -> None:
    with pytest.raises(SettingsError, match=r"CORRAL_REGISTRY_MIRROR has .* it must be HOST=URL"):
        Settings.from_env({"CORRAL_REGISTRY_MIRROR": pair})


SWITCHES = [
    ("OLLAMA_NOPRUNE", "noprune"),
    ("OLLAMA_IGNORE_IMAGES", "ignore_images"),
    ("OLLAMA_FLASH_ATTENTION", "flash_attention"),
    ("OLLAMA_DEBUG", "debug"),
]


@pytest.mark.parametrize(("variable", "setting"), SWITCHES)
@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True", "'1'"])
def test_a_switch_is_on_by_the_words_of_go(variable: str, setting: str, text: str) -> None:
    assert getattr(Settings.from_env({variable: text}), setting) is True


@pytest.mark.parametrize(("variable", "setting"), SWITCHES)
@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_a_switch_is_off_by_the_words_of_go(variable: str, setting: str, text: str) -> None:
    assert getattr(Settings.from_env({variable: text}), setting) is False


@pytest.mark.parametrize(("variable", "setting"), SWITCHES[:3])
@pytest.mark.parametrize("text", ["yes", "on", "2"])
def test_any_other_text_turns_a_switch_on(variable: str, setting: str, text: str) -> None:
    assert getattr(Settings.from_env({variable: text}), setting) is True


@pytest.mark.parametrize("text", ["", "auto", "Auto"])
def test_flash_attention_can_be_left_to_the_server(text: str) -> None:
    assert Settings.from_env({"OLLAMA_FLASH_ATTENTION": text}).flash_attention is None


@pytest.mark.parametrize(("text", "debug"), [("2", True), ("00", False), ("-1", False), ("info", False)])
def test_debug_takes_levels(text: str, debug: bool) -> None:
    assert Settings.from_env({"OLLAMA_DEBUG": text}).debug is debug


def test_the_prefix_cache_has_a_share_of_ram_and_no_disk_unless_told_otherwise() -> None:
    settings = Settings.from_env({})
    assert (settings.kv_ram_bytes, settings.kv_dir, settings.kv_disk_bytes) == (-1, None, 10 << 30)
    told = Settings.from_env({"CORRAL_KV_RAM": "0", "CORRAL_KV_DIR": "/var/cache/corral", "CORRAL_KV_DISK": "2.5GB"})
    assert (told.kv_ram_bytes, told.kv_dir, told.kv_disk_bytes) == (0, Path("/var/cache/corral"), 5 << 29)


@pytest.mark.parametrize("name", ["CORRAL_KV_RAM", "CORRAL_KV_DISK"])
def test_a_size_that_is_none_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} is 'much'.*4GB"):
        Settings.from_env({name: "much"})

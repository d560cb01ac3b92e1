"""Settings from the environment: `CORRAL_NAME` wins over `OLLAMA_NAME`, and both over the default.

The names and their meaning are Ollama's. Reading is pure: a mapping goes in, frozen values come out.
Source: ollama@v0.32 envconfig/config.go.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from corral.core.errors import BadRequestError
from corral.core.units import FOREVER_S, keep_alive_s, size_bytes

DEFAULT_PORT = 11434
KV_CACHE_TYPES = ("f16", "q8_0", "q4_0", "f32", "bf16", "q5_1", "q5_0", "q4_1")
_YES = ("1", "t", "T", "TRUE", "true", "True")  # the words of Go's strconv.ParseBool
_NO = ("0", "f", "F", "FALSE", "false", "False")
OLLAMA_VERSION = "0.40.12"  # the version of Ollama whose API this is; clients gate features on it


class SettingsError(BadRequestError):
    """A setting has a value that cannot be read. The text names the variable and the value."""

    code = "bad_setting"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens or is reached."""

    host: str
    port: int
    scheme: str = "http"
    path: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_host(text: str) -> Address:
    """The address in an OLLAMA_HOST value.

    >>> parse_host("").url, parse_host("1.2.3.4").url
    ('http://127.0.0.1:11434', 'http://1.2.3.4:11434')
    >>> parse_host(":5000").url, parse_host("https://box/ai/").url
    ('http://0.0.0.0:5000', 'https://box:443/ai')
    >>> parse_host("[::1]:99").url, parse_host("http://box").url
    ('http://[::1]:99', 'http://box:80')
    """
    text = text.strip().strip("\"'")
    scheme, _, rest = text.rpartition("://")
    port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    where, slash, path = rest.partition("/")
    if where.count(":") > 1 and not where.startswith("["):
        where = f"[{where}]"
    try:
        parts = urlsplit(f"//{where}")
        host, given = parts.hostname or "", parts.port
    except ValueError as exc:
        raise SettingsError(f"invalid host {text!r}: {exc}") from exc
    if not all(char.isprintable() and char not in " \\" for char in host + path):
        raise SettingsError(f"invalid host {text!r}: it holds characters that no address has")
    if not host:
        host = "0.0.0.0" if where.startswith(":") else "127.0.0.1"  # noqa: S104  ":PORT" means every interface
    return Address(
        host, port if given is None else given, scheme or "http", slash and "/" + path.strip("/") if path.strip("/") else ""
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator can set. Made once, by `from_env`, and passed down."""

    address: Address = field(default_factory=lambda: parse_host(""))
    models: Path = field(default_factory=lambda: Path.home() / ".corral" / "models")
    extra_stores: tuple[Path, ...] = ()  # read, never written
    origins: tuple[str, ...] = ()
    keep_alive_s: float = 300.0
    load_timeout_s: float = 300.0  # a load that makes no progress for so long is given up
    num_parallel: int = 0  # sequences per model; 0: chosen by the scheduler
    max_loaded_models: int = 0  # 0: as many as fit in memory
    max_queue: int = 512
    context_length: int = 0  # 0: 4096
    flash_attention: bool | None = None
    kv_cache_type: str = ""  # "": f16, or what a model was tuned for
    kv_ram_bytes: int = -1  # of each model, for conversations that are parked; 0: none; -1: a share of what is free
    kv_dir: Path | None = None  # where what was computed of prompts outlives its worker; None: nowhere
    kv_disk_bytes: int = 10 << 30  # of that folder
    memory_budget_bytes: int = 0  # for all models together; 0: what the machine has free
    ignore_images: bool = False  # leave out images that a model cannot read, as Ollama does; else they are refused
    noprune: bool = False
    max_transfer_streams: int = 0  # connections of one pull or push; 0: as many as usual
    registry_mirrors: Mapping[str, str] = field(default_factory=dict)  # by host: the URL that is pulled from in its place
    debug: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Settings":
        """Raises SettingsError, naming the variable, where a value cannot be read."""
        read = _Reader(os.environ if env is None else env)
        home = Path(read.env.get("HOME") or Path.home())
        models = read.text("MODELS")
        own = Path(models) if models else home / ".corral" / "models"
        ollama = home / ".ollama" / "models"
        return cls(
            address=parse_host(read.text("HOST")),
            models=own,
            extra_stores=(ollama,) if not models and ollama != own else (),
            origins=tuple(o for o in map(str.strip, read.text("ORIGINS").split(",")) if o),
            keep_alive_s=read.seconds("KEEP_ALIVE", 300.0),
            load_timeout_s=read.seconds("LOAD_TIMEOUT", 300.0) or FOREVER_S,
            num_parallel=read.count("NUM_PARALLEL", 0),
            max_loaded_models=read.count("MAX_LOADED_MODELS", 0),
            max_queue=read.count("MAX_QUEUE", 512),
            context_length=read.count("CONTEXT_LENGTH", 0),
            flash_attention=read.choice("FLASH_ATTENTION"),
            kv_cache_type=read.one_of("KV_CACHE_TYPE", KV_CACHE_TYPES, ""),
            kv_ram_bytes=read.size("KV_RAM", -1),
            kv_dir=Path(read.text("KV_DIR")).expanduser() if read.text("KV_DIR") else None,
            kv_disk_bytes=read.size("KV_DISK", 10 << 30),
            memory_budget_bytes=read.count("MEMORY_BUDGET", 0),
            ignore_images=read.flag("IGNORE_IMAGES"),
            noprune=read.flag("NOPRUNE"),
            max_transfer_streams=read.count("MAX_TRANSFER_STREAMS", 0),
            registry_mirrors=read.mirrors("REGISTRY_MIRROR"),
            debug=read.debug(),
        )


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env

    def text(self, name: str) -> str:
        return self._named(name)[1]

    def _named(self, name: str) -> tuple[str, str]:
        """The variable that is set, and its value; the value is empty where none is."""
        for prefix in ("CORRAL_", "OLLAMA_"):
            if value := self.env.get(prefix + name, "").strip().strip("\"'"):
                return prefix + name, value
        return "", ""

    def one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        variable, text = self._named(name)
        if text and text not in allowed:
            raise SettingsError(f"{variable} is {text!r}; it must be one of {', '.join(allowed)}")
        return text or default

    def count(self, name: str, default: int) -> int:
        variable, text = self._named(name)
        if not text:
            return default
        if not text.isdecimal():
            raise SettingsError(f"{variable} is {text!r}; it must be a whole number, zero or more")
        return int(text)

    def size(self, name: str, default: int) -> int:
        variable, text = self._named(name)
        try:
            return size_bytes(text) if text else default
        except BadRequestError as exc:
            raise SettingsError(f"{variable} is {text!r}; it must be a number of bytes, or a size such as 4GB") from exc

    def flag(self, name: str) -> bool:
        """Off where nothing is set. A text that says neither yes nor no is a yes, as in Ollama."""
        text = self.text(name)
        return bool(text) and text not in _NO

    def choice(self, name: str) -> bool | None:
        """A flag that can be left to the server: `auto`, or nothing."""
        return None if self.text(name).lower() in ("", "auto") else self.flag(name)

    def debug(self) -> bool:
        """Yes, or a level above 0; any other text is a no, as in Ollama.

        Source: ollama@v0.32 envconfig/config.go, LogLevel.
        """
        text = self.text("DEBUG")
        return text in _YES or (text.isdecimal() and bool(text.strip("0")))

    def mirrors(self, name: str) -> dict[str, str]:
        """`HOST=URL` pairs. A URL without a scheme is https."""
        variable, text = self._named(name)
        found: dict[str, str] = {}
        for pair in text.replace(",", " ").split():
            host, equals, url = pair.partition("=")
            url = (url if "://" in url else f"https://{url}").rstrip("/")
            try:
                parts = urlsplit(url)
                is_good = bool(host and equals and parts.hostname and parts.scheme in ("http", "https")) and not parts.query
            except ValueError:
                is_good = False
            if not is_good:
                raise SettingsError(f"{variable} has {pair!r}; it must be HOST=URL, for example hf.co=https://mirror.example")
            found[host.lower()] = url
        return found

    def seconds(self, name: str, default: float) -> float:
        variable, text = self._named(name)
        if not text:
            return default
        try:
            value = keep_alive_s(text)
        except BadRequestError as exc:
            raise SettingsError(f"{variable} is {text!r}; it must be a duration such as 5m, or seconds") from exc
        return value if not math.isnan(value) else default

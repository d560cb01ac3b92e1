"""The commands about models in memory: `ps` and `stop`."""

from datetime import UTC, datetime

import click

from corral.cli.client import Client, Json, ServerError
from corral.cli.render import human_bytes, human_time, parse_time, table
from corral.cli.usage import Command

_ID_DIGITS = 12


def processor(size_bytes: int, vram_bytes: int) -> str:
    """Where a model's memory is.

    >>> processor(10, 0), processor(10, 10), processor(100, 52), processor(0, 5)
    ('100% CPU', '100% GPU', '48%/52% CPU/GPU', 'Unknown')
    """
    if vram_bytes == 0:
        return "100% CPU"
    if vram_bytes == size_bytes:
        return "100% GPU"
    if vram_bytes > size_bytes:
        return "Unknown"
    cpu_percent = int((size_bytes - vram_bytes) / size_bytes * 100 + 0.5)
    return f"{cpu_percent}%/{100 - cpu_percent}% CPU/GPU"


def _row(model: Json, now: datetime) -> list[str]:
    expires_at = parse_time(model["expires_at"])
    return [
        model["name"],
        model["digest"][:_ID_DIGITS],
        human_bytes(model["size"]),
        processor(model["size"], model.get("size_vram", 0)),
        str(model.get("context_length", 0)),
        "Stopping..." if expires_at < now else human_time(expires_at, now),
    ]


def _ps(words: tuple[str, ...]) -> None:
    prefix = words[0].lower() if words else ""
    models: list[Json] = Client().call("GET", "/api/ps").get("models") or []
    now = datetime.now(UTC)
    body = [_row(model, now) for model in models if model["name"].lower().startswith(prefix)]
    click.echo(table(["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], body), nl=False)


def is_running(client: Client, name: str) -> bool:
    tagged = (name if ":" in name.rpartition("/")[2] else f"{name}:latest").lower()
    models: list[Json] = client.call("GET", "/api/ps").get("models") or []
    return any(model["name"].lower() == tagged for model in models)


def unload(client: Client, name: str) -> None:
    """Asks the server to drop the model when its requests have ended. ServerError 404: there is no such model."""
    client.call("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False})


def _stop(words: tuple[str, ...]) -> None:
    name = words[0]
    try:
        unload(Client(), name)
    except ServerError as exc:
        if exc.status == 404:
            raise ServerError(404, f'couldn\'t find model "{name}" to stop') from exc
        raise


ps = Command("ps", _ps, usage="ps [PREFIX]", summary="List running models", at_most=1)
stop = Command("stop", _stop, usage="stop MODEL", summary="Stop a running model", at_least=1, at_most=1)

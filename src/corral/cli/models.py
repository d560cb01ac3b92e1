"""The commands about models on disk: `list` and `rm`."""

from datetime import UTC, datetime

import click

from corral.cli.client import Client, Json, ServerError
from corral.cli.render import human_bytes, human_time, parse_time, table
from corral.cli.running import unload
from corral.cli.usage import Command

_ID_DIGITS = 12


def _list(words: tuple[str, ...]) -> None:
    prefix = words[0].lower() if words else ""
    models: list[Json] = Client().call("GET", "/api/tags").get("models") or []
    now = datetime.now(UTC)
    body = [
        [
            model["name"],
            model["digest"][:_ID_DIGITS],
            human_bytes(model["size"]),
            human_time(parse_time(model["modified_at"]), now),
        ]
        for model in models
        if model["name"].lower().startswith(prefix)
    ]
    click.echo(table(["NAME", "ID", "SIZE", "MODIFIED"], body), nl=False)


def _rm(words: tuple[str, ...]) -> None:
    client = Client()
    for name in words:
        try:
            unload(client, name)
        except ServerError as exc:
            if exc.status != 404:
                click.echo(f"Warning: unable to stop model '{name}': {exc}", err=True)
        client.call("DELETE", "/api/delete", {"model": name})
        click.echo(f"deleted '{name}'")


ls = Command("list", _list, usage="list [PREFIX]", summary="List models", aliases=("ls",), at_most=1)
rm = Command("rm", _rm, usage="rm MODEL [MODEL...]", summary="Remove a model", at_least=1)

"""The commands about models on disk: `list`, `cp` and `rm`."""

from datetime import UTC, datetime
from typing import Final

import click

from corral.cli.client import Client, Json, ServerError
from corral.cli.render import human_bytes, human_time, parse_time, table
from corral.cli.running import is_running, unload
from corral.cli.usage import Command

_ID_DIGITS: Final = 12


def listing(client: Client, prefix: str = "") -> str:
    """The table of the models whose names begin so, in any case."""
    answer = client.call("GET", "/api/tags")
    models: list[Json] = answer.get("models") or []
    for damaged in answer.get("damaged") or ():
        click.echo(f"Warning: {damaged['error']}", err=True)
    now = datetime.now(UTC)
    body = [
        [
            model["name"],
            model["digest"][:_ID_DIGITS],
            human_bytes(model["size"]),
            human_time(parse_time(model["modified_at"]), now),
        ]
        for model in models
        if model["name"].lower().startswith(prefix.lower())
    ]
    return table(["NAME", "ID", "SIZE", "MODIFIED"], body)


def _list(words: tuple[str, ...]) -> None:
    click.echo(listing(Client(), *words), nl=False)


def _copy(words: tuple[str, ...]) -> None:
    source, destination = words
    Client().call("POST", "/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")


def _rm(words: tuple[str, ...]) -> int:
    """The exit code: 1 where one of them could not be removed; the others are."""
    client = Client()
    code = 0
    for name in words:
        try:
            _remove(client, name)
        except ServerError as exc:
            click.echo(f"Error: {exc}", err=True)
            code = 1
        else:
            click.echo(f"deleted '{name}'")
    return code


def _remove(client: Client, name: str) -> None:
    try:
        unload(client, name)
    except ServerError as exc:
        if is_running(client, name):  # one that is missing or damaged has nothing to stop
            click.echo(f"Warning: unable to stop model '{name}': {exc}", err=True)
    client.call("DELETE", "/api/delete", {"model": name})


ls = Command("list", _list, usage="list [PREFIX]", summary="List models", aliases=("ls",), at_most=1)
cp = Command("cp", _copy, usage="cp SOURCE DESTINATION", summary="Copy a model", at_least=2, at_most=2)
rm = Command("rm", _rm, usage="rm MODEL [MODEL...]", summary="Remove a model", at_least=1)

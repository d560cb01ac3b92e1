"""`corral --version`: this program's version, and a word about the server's where it differs."""

import click

from corral import __version__
from corral.cli.client import Client, ServerError, UnreachableError


def show_version() -> None:
    click.echo(f"corral version is {__version__}")
    client = Client()
    try:
        server = client.call("GET", "/api/version")
    except UnreachableError:
        click.echo(f"Warning: could not connect to a running server at {client.address.url}", err=True)
        return
    except ServerError as exc:
        click.echo(f"Warning: the server at {client.address.url} does not tell its version: {exc}", err=True)
        return
    if "corral" not in server:
        click.echo(f"Warning: the server at {client.address.url} is Ollama {server.get('version', '')}", err=True)
    elif server["corral"] != __version__:
        click.echo(f"Warning: server version is {server['corral']}", err=True)

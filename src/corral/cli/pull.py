"""`corral pull`, and the pull that `run` begins with where a model is missing."""

import sys

import click

from corral.cli.client import Client
from corral.cli.progress import PullProgress
from corral.cli.usage import Command, Flag


def fetch(client: Client, name: str, *, insecure: bool = False, progress: PullProgress | None = None) -> None:
    """Has the server pull the model and shows how it goes. Raises ServerError where it fails; says that Ctrl-C stopped it."""
    try:
        with (
            progress or PullProgress(sys.stderr) as shown,
            client.stream("/api/pull", {"model": name, "insecure": insecure, "stream": True}) as statuses,
        ):
            for status in statuses:
                shown.update(status)
    except KeyboardInterrupt:
        text = f"the pull of {name} was stopped; what came from a registry is kept, and the next pull goes on with it"
        click.echo(text, err=True)
        raise


def _pull(words: tuple[str, ...], *, insecure: bool) -> None:
    fetch(Client(), words[0], insecure=insecure)


INSECURE = Flag("--insecure", is_flag=True, help="Use an insecure registry")
pull = Command(
    "pull", _pull, usage="pull MODEL", summary="Pull a model from a registry", flags=[INSECURE], at_least=1, at_most=1
)

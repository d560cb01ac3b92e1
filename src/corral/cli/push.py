"""`corral push`: has the server send a model to the registry that its name says, and tells where it is then."""

import sys
from typing import Final

import click

from corral.cli.client import Client, ServerError
from corral.cli.progress import PullProgress
from corral.cli.pull import INSECURE
from corral.cli.usage import Command
from corral.core.errors import ForbiddenError

_OLLAMAS: Final = (".ollama.ai", ".ollama.com")
_REFUSED: Final = ("access denied", "unauthorized")


def _push(words: tuple[str, ...], *, insecure: bool) -> None:
    name = words[0]
    try:
        with (
            PullProgress(sys.stderr) as shown,
            Client().stream("/api/push", {"model": name, "insecure": insecure, "stream": True}) as statuses,
        ):
            for status in statuses:
                shown.update(status)
    except ServerError as exc:
        if not any(word in exc.text.lower() for word in _REFUSED):
            raise
        raise ForbiddenError(
            f"you are not authorized to push to this namespace, create the model under a namespace you own\n{exc.text}"
        ) from exc
    click.echo(f"\nYou can find your model at:\n\n\t{destination(name)}")


def destination(name_text: str) -> str:
    """Where a pushed model is: its page at Ollama, or its whole name.

    >>> destination("me/hello"), destination("http://127.0.0.1:5000/me/hello:v1")
    ('https://ollama.com/me/hello', '127.0.0.1:5000/me/hello:v1')
    """
    from corral.store import ModelName

    name = ModelName.parse(name_text)
    if name.host.endswith(_OLLAMAS):
        return f"https://ollama.com/{name.namespace}/{name.model}" + ("" if name.tag == "latest" else f":{name.tag}")
    return name.full


push = Command("push", _push, usage="push MODEL", summary="Push a model to a registry", flags=[INSECURE], at_least=1, at_most=1)

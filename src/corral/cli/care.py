"""`corral du` and `corral prune`: what the store holds and who needs it, and the removal of what nobody does.

The server is asked; where none runs on this machine, the store is looked at from here, under the lock that servers take too.
"""

from typing import TYPE_CHECKING, Final

import click

from corral.cli.client import Client, Json, UnreachableError
from corral.cli.render import human_bytes, table
from corral.cli.usage import Command, Flag

if TYPE_CHECKING:
    from corral.store import Store

_KINDS: Final = {"unused": "unused blobs", "partial": "interrupted downloads", "temporary": "temporary files"}


def _usage() -> Json:
    client = Client()
    try:
        return client.call("GET", "/admin/store")
    except UnreachableError:
        store = _store(client)
        if store is None:
            raise
        return _plain(store.usage())


def _pruned(*, dry_run: bool, partials: bool) -> Json:
    client = Client()
    try:
        return client.call("POST", "/admin/store/prune", {"dry_run": dry_run, "partials": partials})
    except UnreachableError:
        store = _store(client)
        if store is None:
            raise
        return _plain(store.prune(dry_run=dry_run, partials=partials))


def _store(client: Client) -> "Store | None":
    """The store of this machine; None where the server that was asked for would be on another one."""
    if not client.is_here:
        return None
    from corral.core.settings import Settings
    from corral.store import Store

    settings = Settings.from_env()
    return Store(settings.models, settings.extra_stores)


def _plain(report: object) -> Json:
    import msgspec

    plain: Json = msgspec.to_builtins(report)
    return plain


def _du(words: tuple[str, ...]) -> None:
    report = _usage()
    body = [
        [model["name"], human_bytes(model["alone_bytes"]), human_bytes(model["shared_bytes"]), _lacks(model["missing"])]
        for model in report["models"]
    ]
    click.echo(table(["NAME", "ALONE", "SHARED", ""], body), nl=False)
    click.echo()
    rows = [["models", human_bytes(report["used_bytes"])]]
    rows += [[title, human_bytes(_bytes(report["leftovers"], kind))] for kind, title in _KINDS.items()]
    total = report["used_bytes"] + sum(item["size_bytes"] for item in report["leftovers"])
    click.echo(table([report["root"], human_bytes(total)], rows), nl=False)
    for name in report["damaged"]:
        click.echo(f"Warning: the manifest of model '{name}' cannot be read; pull or create it again, or remove it", err=True)


def _lacks(missing: int) -> str:
    return f"{missing} layers missing" if missing > 1 else "1 layer missing" if missing else ""


def _bytes(leftovers: list[Json], kind: str) -> int:
    return sum(item["size_bytes"] for item in leftovers if item["kind"] == kind)


def _prune(words: tuple[str, ...], *, dry_run: bool, partials: bool) -> None:
    report = _pruned(dry_run=dry_run, partials=partials)
    removed: list[Json] = report["removed"]
    for item in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {item['path']} ({human_bytes(item['size_bytes'])})")
    size = human_bytes(sum(item["size_bytes"] for item in removed))
    click.echo(f"{size} would be free" if dry_run else f"{size} freed")
    for kind, title in _KINDS.items():
        if kept := _bytes(report["kept"], kind):
            click.echo(f"kept {human_bytes(kept)} of {title}{_why(kind, partials=partials)}")
    for name in report["damaged"]:
        click.echo(
            f"Warning: all blobs were kept, because the manifest of model '{name}' cannot be read and nobody knows what it "
            "needs; pull or create it again, or remove it",
            err=True,
        )


def _why(kind: str, *, partials: bool) -> str:
    match kind:
        case "partial" if not partials:
            return "; --partials removes them"
        case "partial":
            return ", which are under way"
        case _:
            return ", which somebody may still be about to use"


du = Command("du", _du, usage="du", summary="Show what models take on disk", at_most=0)
prune = Command(
    "prune",
    _prune,
    usage="prune",
    summary="Remove files that no model needs",
    flags=[
        Flag("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing"),
        Flag("--partials", is_flag=True, help="Remove interrupted downloads too"),
    ],
    at_most=0,
)

"""The command table: a command is named here and its module is imported when it is called. Owns exit codes and `Error: …`."""

import importlib
import os
import sys
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import click

from corral.cli.usage import Command, UsageError, rows
from corral.core.errors import CorralError

INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Entry:
    target: str  # "module:attribute" of a Command
    summary: str


COMMANDS: Final = {
    "serve": Entry("corral.cli.serve:serve", "Start Corral"),
    "create": Entry("corral.cli.create:create", "Create a model"),
    "show": Entry("corral.cli.show:show", "Show information for a model"),
    "run": Entry("corral.cli.run:run", "Run a model"),
    "stop": Entry("corral.cli.running:stop", "Stop a running model"),
    "pull": Entry("corral.cli.pull:pull", "Pull a model from a registry"),
    "push": Entry("corral.cli.push:push", "Push a model to a registry"),
    "list": Entry("corral.cli.models:ls", "List models"),
    "ps": Entry("corral.cli.running:ps", "List running models"),
    "cp": Entry("corral.cli.models:cp", "Copy a model"),
    "rm": Entry("corral.cli.models:rm", "Remove a model"),
    "du": Entry("corral.cli.care:du", "Show what models take on disk"),
    "prune": Entry("corral.cli.care:prune", "Remove files that no model needs"),
    "tune": Entry("corral.cli.tune:tune", "Measure which settings suit a model, and keep them"),
    "bench": Entry("corral.cli.bench.command:bench", "Measure a server, or compare several"),
}
ABSENT: Final = {  # commands of Ollama's that Corral has no use for: they say so, and are in no list
    "signin": Entry("corral.cli.absent:signin", "Sign in to ollama.com"),
    "signout": Entry("corral.cli.absent:signout", "Sign out from ollama.com"),
    "launch": Entry("corral.cli.absent:launch", "Launch an integration"),
}
ALIASES: Final = {"start": "serve", "ls": "list", "login": "signin", "logout": "signout"}
RUN_FLAGS: Final = {
    "--nowordwrap": "Don't wrap words to the next line automatically",
    "--verbose": "Show timings for response",
}
_NAME_WIDTH: Final = 10


class Root(click.Group):
    """`corral` itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        entry = COMMANDS.get(name) or ABSENT.get(name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Only `--help`, `--version` and `help [COMMAND]` are the root's own; flags of `run` may stand before it."""
        early = list(takewhile(RUN_FLAGS.__contains__, args))
        args = args[len(early) :]
        if early and args and not args[0].startswith("-"):
            args = [args[0], *early, *args[1:]]
        match args:
            case [] | ["-h" | "--help", *_] | ["help"]:
                click.echo(self.get_help(ctx))
                ctx.exit()
            case ["help", name, *_]:
                return super().parse_args(ctx, [name, "--help"])
            case ["-v" | "--version", *_]:
                from corral.cli.version import show_version

                show_version()
                ctx.exit()
            case [name, *_] if name.startswith("-"):
                raise UsageError(f"unknown flag: {name}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, Command, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            raise UsageError(f'unknown command "{args[0]}" for "corral"{_suggestion(args[0])}')
        return args[0], command, args[1:]

    def get_help(self, ctx: click.Context) -> str:
        table = [(name, entry.summary) for name, entry in COMMANDS.items()] + [("help", "Help about any command")]
        flags = [
            ("-h, --help", "help for corral"),
            *((f"    {name}", text) for name, text in RUN_FLAGS.items()),
            ("-v, --version", "Show version information"),
        ]
        return "\n\n".join(
            [
                "Large language model runner",
                "Usage:\n  corral [flags]\n  corral [command]",
                "Available Commands:\n" + rows(table, indent=2, least=_NAME_WIDTH),
                "Flags:\n" + rows(flags, indent=2),
                'Use "corral [command] --help" for more information about a command.',
            ]
        )


def _suggestion(name: str) -> str:
    """As Ollama's own command line words it, through Cobra."""
    from corral.cli.hints import meant

    near = meant(name, [*COMMANDS, *ALIASES])
    return f"\n\nDid you mean this?\n\t{near}\n" if near else ""


def _say_what_was_meant(error: CorralError) -> None:
    from corral.cli.client import ServerError

    if isinstance(error, ServerError):
        from corral.cli.hints import meant_model

        if name := meant_model(error):
            click.echo(f'Did you mean "{name}"?', err=True)


def main(args: list[str] | None = None) -> int:
    """The exit code of a command line: 0, 1 with `Error: …` on stderr, or 130 after Ctrl-C."""
    try:
        code = Root("corral", add_help_option=False).main(args, prog_name="corral", standalone_mode=False)
        sys.stdout.flush()
    except CorralError as exc:
        click.echo(f"Error: {exc}", err=True)
        _say_what_was_meant(exc)
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; the last flush must not complain
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())

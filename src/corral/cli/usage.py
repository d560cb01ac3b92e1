"""How commands describe themselves and refuse: the layout of `--help` and the words of usage errors are those of Ollama's CLI.

Scripts and people read both, so they are kept word for word; click does the parsing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from corral.core.errors import BadRequestError

HOST_VARIABLE: Final = {"OLLAMA_HOST": "IP Address for the corral server (default 127.0.0.1:11434)"}
_VARIABLE_WIDTH: Final = 27  # the same in every help text


class UsageError(BadRequestError):
    """The command line cannot be understood."""

    code = "usage"


class Flag(click.Option):
    """An option with its place in the help: `placeholder` is what stands for its value there.

    `bare_value`: what the flag means without `=VALUE`; such a flag never takes the next word as its value.
    """

    def __init__(self, *names: str, placeholder: str = "", bare_value: str = "", **settings: Any) -> None:
        super().__init__(names, **settings)
        self.placeholder = placeholder
        self.bare_value = bare_value

    def help_row(self) -> tuple[str, str]:
        short = next((f"{name}, " for name in self.opts if not name.startswith("--")), "    ")
        long = next(name for name in self.opts if name.startswith("--"))
        value = f'{self.placeholder}[="{self.bare_value}"]' if self.bare_value else self.placeholder
        return f"{short}{long} {value}".rstrip(), self.help or ""


class Switch(Flag):
    """A flag that is on, off or not given, which is None."""

    def __init__(self, *names: str, **settings: Any) -> None:
        super().__init__(*names, type=click.BOOL, default=None, bare_value="true", **settings)

    def help_row(self) -> tuple[str, str]:
        left, right = super().help_row()
        return left.partition("[")[0], right


class Command(click.Command):
    """A command of the table: its arguments are counted as Ollama counts them and its help is laid out the same way."""

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        *,
        usage: str,
        summary: str,
        flags: Sequence[Flag] = (),
        at_least: int = 0,
        at_most: int | None = None,
        aliases: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        notes: str = "",
    ) -> None:
        words = click.Argument(["words"], nargs=-1)
        super().__init__(name, callback=run, params=[*flags, words], help=summary, add_help_option=False)
        self.usage, self.summary, self.aliases, self.notes = usage, summary, aliases, notes
        self.environment = HOST_VARIABLE if environment is None else environment
        self._at_least, self._at_most = at_least, at_most
        self.params.append(_help_flag(name))

    @property
    def flags(self) -> list[Flag]:
        return [param for param in self.params if isinstance(param, Flag)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, self._spell_out(args))
        except click.UsageError as exc:
            raise UsageError(_in_ollamas_words(exc)) from exc
        self._count(len(ctx.params["words"]))
        return rest

    def _spell_out(self, args: Sequence[str]) -> list[str]:
        """Go's spellings in click's: `--verbose=false`, and a bare `--think` that leaves the next word alone."""
        by_name = {name: flag for flag in self.flags for name in flag.opts}
        out: list[str] = []
        for at, arg in enumerate(args):
            if arg == "--":
                return [*out, *args[at:]]
            name, equals, value = arg.partition("=")
            flag = by_name.get(name)
            if flag is not None and flag.bare_value and not equals:
                out.append(f"{name}={flag.bare_value}")
            elif flag is not None and flag.is_flag and equals:
                if _truth(name, value):
                    out.append(name)
            else:
                out.append(arg)
        return out

    def _count(self, given: int) -> None:
        if self._at_most == self._at_least != given:
            raise UsageError(f"accepts {self._at_least} arg(s), received {given}")
        if given < self._at_least:
            raise UsageError(f"requires at least {self._at_least} arg(s), only received {given}")
        if self._at_most is not None and given > self._at_most:
            raise UsageError(f"accepts at most {self._at_most} arg(s), received {given}")

    def get_help(self, ctx: click.Context) -> str:
        parts = [self.summary, f"Usage:\n  corral {self.usage} [flags]"]
        if self.aliases:
            parts.append("Aliases:\n  " + ", ".join([self.name or "", *self.aliases]))
        parts.append("Flags:\n" + rows([flag.help_row() for flag in sorted(self.flags, key=_long_name)], indent=2))
        if self.environment:
            parts.append("Environment Variables:\n" + rows(list(self.environment.items()), indent=6, least=_VARIABLE_WIDTH))
        if self.notes:
            parts.append(self.notes)
        return "\n\n".join(parts)


def _help_flag(command: str) -> Flag:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            click.echo(ctx.command.get_help(ctx))
            ctx.exit()

    return Flag("-h", "--help", is_flag=True, is_eager=True, expose_value=False, callback=show, help=f"help for {command}")


def _long_name(flag: Flag) -> str:
    return next(name for name in flag.opts if name.startswith("--"))


def _truth(name: str, value: str) -> bool:
    match value.lower():
        case "true" | "t" | "1":
            return True
        case "false" | "f" | "0":
            return False
        case _:
            raise UsageError(f'invalid argument "{value}" for "{name}" flag: must be true or false')


def _in_ollamas_words(error: click.UsageError) -> str:
    match error:
        case click.NoSuchOption(option_name=name) if name.startswith("--"):
            return f"unknown flag: {name}"
        case click.NoSuchOption(option_name=name):
            return f"unknown shorthand flag: '{name[1:2]}' in {name}"
        case click.BadOptionUsage(option_name=name):
            return f"flag needs an argument: {name}"
        case click.BadParameter(param=Flag() as flag, message=text):
            return f'invalid argument for "{_long_name(flag)}" flag: {text.rstrip(".")}'
        case _:
            return error.format_message()


def rows(pairs: Sequence[tuple[str, str]], *, indent: int, least: int = 0) -> str:
    """Two columns, three spaces between them; the first is `least` wide or more."""
    width = max(least, *(len(left) for left, _ in pairs))
    return "\n".join(f"{' ' * indent}{left:<{width}}   {right}".rstrip() for left, right in pairs)

"""Ollama's commands that need an account at ollama.com, or set up other programs: each says what to do instead, exit code 1."""

from typing import NoReturn

from corral.cli.client import server_address
from corral.cli.usage import Command, UsageError


def _no_account(words: tuple[str, ...]) -> NoReturn:
    raise UsageError("Corral has no account to sign in to or out of: every command works without one")


def _launch(words: tuple[str, ...]) -> NoReturn:
    program = words[0] if words else "the program"
    raise UsageError(
        f"Corral starts and sets up no other programs: start {program} yourself and give it {server_address().url} "
        "as the address of its Ollama server"
    )


signin = Command("signin", _no_account, usage="signin", summary="Sign in to ollama.com", aliases=("login",))
signout = Command("signout", _no_account, usage="signout", summary="Sign out from ollama.com", aliases=("logout",))
launch = Command("launch", _launch, usage="launch [INTEGRATION]", summary="Launch an integration")
launch.context_settings["ignore_unknown_options"] = True  # they are meant for the other program

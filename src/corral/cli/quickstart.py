"""What `./start` does without arguments: a server, the default model, three things to try.

The server is a child in a session of its own, so that a Ctrl-C reaches it once, through here. Of its log a person needs little:
what went wrong, always, and one line a request once the server is theirs. OLLAMA_DEBUG shows all of it.
"""

import re
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Final

import click

from corral.cli.client import Client, ServerError, UnreachableError
from corral.cli.progress import PullProgress
from corral.cli.pull import fetch
from corral.core.errors import CorralError
from corral.core.settings import Settings, parse_host

DEFAULT_MODEL: Final = "smollm2:135m"
_READY_S: Final = 30.0
_LOGGED = re.compile(r"\d\d:\d\d:\d\d (\w+) +(.*)")  # as core/log.py writes them
_REQUEST = re.compile(r"request .*\bpath=(\S+)")
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

THINGS_TO_TRY: Final = """
Corral answers at {url}. Three things to try, in another terminal:

  {host}./start run {model}
  {host}./start run {model} "Why is the sky blue?"
  curl {url}/api/chat -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Ctrl-C stops the server.
"""


class StartError(CorralError):
    """The server could not be started. The text says why."""

    code = "start_failed"


def refuse_if_taken(client: Client) -> None:
    """Raises StartError where a server answers already."""
    try:
        version = client.call("GET", "/api/version")
    except UnreachableError:
        return
    except ServerError as exc:
        raise StartError(f"something else answers at {client.address.url} ({exc}); OLLAMA_HOST sets another address") from exc
    name = f"Corral {version['corral']}" if "corral" in version else f"Ollama {version.get('version', '')}"
    raise StartError(
        f"{name} is running at {client.address.url} already: use it (./start run {DEFAULT_MODEL}), stop it first, "
        "or choose another address: OLLAMA_HOST=127.0.0.1:11435 ./start"
    )


class LogFilter:
    """Which lines of the server's log are shown. Requests are not while `is_quiet`, nor is one to each of `own`."""

    def __init__(self, *, shows_all: bool = False) -> None:
        self.is_quiet = True
        self.own: list[str] = []  # what was asked from here; its line may come late
        self._shows_all = shows_all
        self._shown = True  # whether the line before was: what follows it without a time belongs to it

    def takes(self, line: str) -> bool:
        if found := _LOGGED.match(line):
            level, text = found.groups()
            self._shown = self._shows_all or level not in ("debug", "info") or self._is_others_request(text)
        return self._shown

    def _is_others_request(self, text: str) -> bool:
        path = _REQUEST.match(text)
        if path and path[1] in self.own:
            self.own.remove(path[1])
            return False
        return path is not None and not self.is_quiet


class Server:
    """The child that serves."""

    def __init__(self) -> None:
        self.log_filter = LogFilter(shows_all=Settings.from_env().debug)
        self._above: PullProgress | None = None
        self._child = subprocess.Popen(
            [sys.executable, "-m", "corral.cli.main", "serve"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._log = threading.Thread(target=self._pass_on, args=(self._child.stderr,), name="server log", daemon=True)
        self._log.start()

    def _pass_on(self, lines: IO[str]) -> None:
        for line in filter(self.log_filter.takes, lines):
            if progress := self._above:
                progress.above(line)
            else:
                sys.stderr.write(line)
                sys.stderr.flush()

    def stop(self, signum: int) -> None:
        if self._child.poll() is None:
            self._child.send_signal(signum)

    def wait(self) -> int:
        """Its exit code; 0 where a signal that was asked for ended it."""
        code = self._child.wait()
        self._log.join()
        return 0 if -code in _ENDING else code

    def until_ready(self, client: Client) -> bool:
        """False where it ended before it was ready."""
        end_s = time.monotonic() + _READY_S
        self.log_filter.own.append("/api/version")
        while self._child.poll() is None and time.monotonic() < end_s:
            try:
                client.call("GET", "/api/version")
            except (UnreachableError, ServerError):
                time.sleep(0.05)
            else:
                return True
        return False

    def have(self, client: Client, model: str) -> None:
        """Pulls the model if it is missing. Raises ServerError where that fails."""
        self.log_filter.own += ["/api/show", "/api/pull"]
        try:
            client.call("POST", "/api/show", {"model": model})
        except ServerError as exc:
            if exc.status != 404:
                raise
        else:
            self.log_filter.own.remove("/api/pull")
            return
        self._above = PullProgress(sys.stderr)
        try:
            fetch(client, model, progress=self._above)
        finally:
            self._above = None


def _host_variable(url: str) -> str:
    """What a command line needs before it where the server is not at the usual place."""
    return "" if url == parse_host("").url else f"OLLAMA_HOST={url} "


def main() -> int:
    client = Client()
    try:
        refuse_if_taken(client)
    except CorralError as exc:
        click.echo(f"Error: {exc}", err=True)
        return 1
    server = Server()
    stopping: list[int] = []

    def end(signum: int, _frame: object) -> None:
        stopping.append(signum)
        server.stop(signum)

    for signum in _ENDING:
        signal.signal(signum, end)
    if not server.until_ready(client):
        server.stop(signal.SIGTERM)
        return server.wait() or 1
    try:
        server.have(client, DEFAULT_MODEL)
    except CorralError as exc:
        if not stopping:
            click.echo(f"Error: {exc}\nThe server runs without a model; try again with: ./start pull {DEFAULT_MODEL}", err=True)
    else:
        click.echo(THINGS_TO_TRY.format(url=client.address.url, model=DEFAULT_MODEL, host=_host_variable(client.address.url)))
    server.log_filter.is_quiet = False
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())

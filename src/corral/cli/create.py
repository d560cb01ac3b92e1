"""`corral create`: reads a Modelfile, brings the files that it names to the server, and has the model made.

A GGUF on the server's own machine is offered by its path first, and the server links it (X-Corral-File, `api.ollama.blobs`);
where that is not possible, and for everything else, it is uploaded, if the server does not have it.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import click

from corral.cli.client import Client, Json, ServerError
from corral.cli.model_files import MAGIC, ModelFile, ModelFileError, files_at, named_apart
from corral.cli.progress import PullProgress
from corral.cli.usage import Command, Flag
from corral.store import DEPRECATED_PARAMETERS, Instruction, ModelfileError, ModelName, parameter, parse_modelfile

_DEFAULT: Final = "Modelfile"
_MOST_BYTES: Final = 64 << 20  # of a Modelfile
_READ_BYTES: Final = 1 << 20
_SHOWN_BYTES: Final = 64 << 20  # a smaller file is there before anybody could read of it

FileRole = Literal["files", "adapters", "draft_files"]
_ROLES: Final[dict[str, FileRole]] = {"from": "files", "adapter": "adapters", "draft": "draft_files"}


@dataclass(slots=True)
class Plan:
    """What a Modelfile asks for: a request but for its files, and these by their field in it."""

    body: Json
    files: dict[FileRole, list[ModelFile]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def plan(instructions: Sequence[Instruction], folder: Path) -> Plan:
    """Raises ModelfileError, ModelFileError."""
    made = Plan({})
    for instruction in instructions:
        _add(made, instruction, folder)
    for role, files in made.files.items():
        made.files[role] = named_apart(files)
    _check_draft(made)
    return made


def _add(made: Plan, instruction: Instruction, folder: Path) -> None:
    body, value = made.body, instruction.value
    match instruction.command:
        case "from" | "adapter" | "draft" as command:
            _add_files(made, instruction, _ROLES[command], folder)
        case "license":
            body.setdefault("license", []).append(value)
        case "message":
            body.setdefault("messages", []).append({"role": instruction.name, "content": value})
        case "parameter" if instruction.name in DEPRECATED_PARAMETERS:
            made.warnings.append(f"warning: parameter {instruction.name} is deprecated")
        case "parameter":
            parameters: dict[str, Any] = body.setdefault("parameters", {})
            typed = parameter(instruction)
            before = parameters.get(instruction.name)
            parameters[instruction.name] = [*before, *typed] if isinstance(before, list) else typed
        case "requires":
            body["requires"] = value.removeprefix("v")
        case "template" | "system" | "renderer" | "parser" as command:
            body[command] = value


def _add_files(made: Plan, instruction: Instruction, role: FileRole, folder: Path) -> None:
    found = files_at(instruction.value, folder)
    if found is not None:
        made.files.setdefault(role, []).extend(found)
    elif role != "files":
        name = instruction.command.upper()
        raise ModelFileError(f"{name} {instruction.value} (line {instruction.line}): there is no such file or folder")
    elif made.body.setdefault("from", instruction.value) != instruction.value:
        made.warnings.append(
            f"warning: FROM {instruction.value} (line {instruction.line}) is ignored: it is no file, "
            f"and the model is made from {made.body['from']}"
        )


def _check_draft(made: Plan) -> None:
    main = {file.path for file in made.files.get("files", ())}
    for file in made.files.get("draft_files", ()):
        if file.path in main:
            raise ModelFileError(f"DRAFT must not reference the same local path as FROM: {file.path}")


def _read(file: str | None) -> tuple[bytes, Path]:
    """A Modelfile's bytes, and the folder that its paths are taken from. Raises ModelFileError."""
    if file == "-":
        return sys.stdin.buffer.read(_MOST_BYTES), Path.cwd()
    path = Path(file or _DEFAULT).absolute()
    try:
        with path.open("rb") as source:  # which may be a pipe
            data = source.read(_MOST_BYTES + 1)
    except FileNotFoundError as exc:
        if file is None:
            return b"FROM .\n", Path.cwd()
        raise ModelFileError(f"specified Modelfile wasn't found: {path}") from exc
    except OSError as exc:
        raise ModelFileError(f"cannot read the Modelfile {path}: {exc.strerror}") from exc
    if len(data) > _MOST_BYTES or data.startswith(MAGIC):
        raise ModelFileError(f"{path} is no Modelfile; write one with the line FROM {path}")
    return data, path.parent


class Sender:
    """Brings files to a server, and shows how it goes."""

    def __init__(self, client: Client, progress: PullProgress) -> None:
        self._client, self._progress = client, progress

    def send(self, file: ModelFile) -> str:
        """The digest under which the server has the file now. Raises ModelFileError, ServerError."""
        size_bytes = _size_bytes(file)
        digest = self._digest(file, size_bytes)
        path = f"/api/blobs/{digest}"
        if not self._has(path) and not self._is_taken(file, path):
            status = f"copying file {digest}"
            self._client.upload(path, self._shown(file, size_bytes, status, digest), size_bytes)
        return digest

    def _digest(self, file: ModelFile, size_bytes: int) -> str:
        checksum = hashlib.sha256()
        for data in self._shown(file, size_bytes, f"hashing {file.name}", f"hash of {file.path}"):
            checksum.update(data)
        return f"sha256:{checksum.hexdigest()}"

    def _shown(self, file: ModelFile, size_bytes: int, status: str, key: str) -> Iterator[bytes]:
        done = 0
        for data in _pieces(file, size_bytes):
            done += len(data)
            if size_bytes >= _SHOWN_BYTES:
                self._progress.update({"status": status, "digest": key, "total": size_bytes, "completed": done})
            yield data

    def _has(self, path: str) -> bool:
        try:
            self._client.call("HEAD", path)
        except ServerError as exc:
            if exc.status != 404:
                raise
            return False
        return True

    def _is_taken(self, file: ModelFile, path: str) -> bool:
        """Whether the server took the file from where it lies; an Ollama takes it for an upload of nothing and refuses."""
        if not self._client.is_here or not file.is_gguf:
            return False
        self._progress.update({"status": f"linking file {file.name}"})
        try:
            self._client.upload(path, (), 0, {"X-Corral-File": quote(os.fsencode(file.path))})
        except ServerError:
            return False
        return True


def _size_bytes(file: ModelFile) -> int:
    try:
        return file.path.stat().st_size
    except OSError as exc:
        raise ModelFileError(f"cannot read {file.path}: {exc.strerror}") from exc


def _pieces(file: ModelFile, size_bytes: int) -> Iterator[bytes]:
    """So many bytes of the file, in order. Raises ModelFileError where it has fewer by now."""
    try:
        with file.path.open("rb") as source:
            while size_bytes:
                data = source.read(min(_READ_BYTES, size_bytes))
                if not data:
                    raise ModelFileError(f"{file.path} became shorter while it was read; try again")
                size_bytes -= len(data)
                yield data
    except OSError as exc:
        raise ModelFileError(f"cannot read {file.path}: {exc.strerror}") from exc


def _create(words: tuple[str, ...], *, file: str | None, quantize: str, draft_quantize: str, experimental: bool) -> None:
    del experimental  # safetensors need no flag here
    name = words[0]
    ModelName.parse(name)
    text, folder = _read(file)
    made = plan(parse_modelfile(text), folder)
    if draft_quantize and "draft_files" not in made.files:
        raise ModelfileError(0, "--draft-quantize requires a DRAFT model")
    for warning in made.warnings:
        click.echo(warning, err=True)
    client = Client()
    with PullProgress(sys.stderr) as progress:
        progress.update({"status": "gathering model components"})
        sender = Sender(client, progress)
        settings = {"model": name, "quantize": quantize, "draft_quantize": draft_quantize}
        body: Json = {key: value for key, value in settings.items() if value} | made.body
        for role, files in made.files.items():
            body[role] = {item.name: sender.send(item) for item in files}
        with client.stream("/api/create", body) as statuses:
            for status in statuses:
                progress.update(status)


create = Command(
    "create",
    _create,
    usage="create MODEL",
    summary="Create a model",
    flags=[
        Flag("--draft-quantize", default="", placeholder="string", help="Quantize draft model to this level"),
        Flag("--experimental", is_flag=True, help="Has no effect: safetensors need no flag"),
        Flag("-f", "--file", default=None, placeholder="string", help=f'Name of the Modelfile (default "{_DEFAULT}")'),
        Flag("-q", "--quantize", default="", placeholder="string", help="Quantize model to this level (e.g. q4_K_M)"),
    ],
    at_least=1,
    at_most=1,
)

"""The JSON-Schema-Test-Suite, out of the source package of the jsonschema validator: fetched by pip once, and kept."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = "jsonschema==4.26.0"
_KEPT: Final = Path(tempfile.gettempdir()) / f"corral-tests-{os.getuid()}"


@dataclass(frozen=True, slots=True)
class Group:
    """A schema, and what it makes of values."""

    file: str
    description: str
    schema: Any
    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]


def archive() -> Path:
    """The package's file. Fails where there is none to be had."""
    _KEPT.mkdir(mode=0o700, exist_ok=True)
    found = sorted(_KEPT.glob("jsonschema-*.tar.gz"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", str(_KEPT), _PACKAGE], check=True, timeout=240)
        found = sorted(_KEPT.glob("jsonschema-*.tar.gz"))
    return found[0]


def groups(draft: str) -> Iterator[Group]:
    """All of a draft, those parts included that are optional."""
    with tarfile.open(archive()) as package:
        for member in package.getmembers():
            _, _, name = member.name.partition(f"/json/tests/{draft}/")
            if not name.endswith(".json") or not (file := package.extractfile(member)):
                continue
            for group in json.load(file):
                values: dict[bool, list[Any]] = {True: [], False: []}
                for test in group["tests"]:
                    values[test["valid"]].append(test["data"])
                yield Group(name, group["description"], group["schema"], tuple(values[True]), tuple(values[False]))

"""Test data that lies beside the project on some machines, and is not part of it."""

from pathlib import Path
from typing import Any, Final

import pytest

_ROOT: Final = Path(__file__).parents[3] / "shared"


def shared_files(folder: str) -> list[Any]:
    """The entries of that folder as parameters of a test; where it is absent, one parameter that is skipped and says so."""
    where = _ROOT / folder
    if not where.is_dir():
        return [pytest.param(where, marks=pytest.mark.skip(reason=f"{where} is not there"), id="absent")]
    return sorted(where.iterdir())


def shared_lines(file: str) -> list[Any]:
    """The same for the lines of a file."""
    where = _ROOT / file
    if not where.is_file():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"{where} is not there"), id="absent")]
    return where.read_text().splitlines()

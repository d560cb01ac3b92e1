"""Files and folders that are this user's alone: made so, and not used where they are not. The operator's folder may be one that
others write to, as /tmp is: what they put there in our name is never followed, written to, waited for or believed.
"""

import os
import stat
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)  # for a writer, where a pipe lies in a file's place


class UntrustedError(OSError):
    """Something has the place of a file or folder of ours that others could have put there or can change."""


def make_folder(folder: Path) -> None:
    """Makes it, or takes the one that is there. Raises UntrustedError where that is not ours alone, and other OSErrors."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises UntrustedError where it is there, but not ours alone."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedError(f"{folder} is no folder; delete it, or set another one")
    if not _is_ours(status):
        raise UntrustedError(f"{folder} belongs to user {status.st_uid}; set a folder of your own")
    if os.name == "posix" and status.st_mode & _OTHERS_WRITE:
        raise UntrustedError(f"others may write to {folder}; take that right away with chmod go-w, or delete it")


def open_new(path: Path) -> int:
    """A file that nobody has had before, to be written."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)


def open_own(path: Path) -> int:
    """A file of ours, to be read. Raises FileNotFoundError, UntrustedError, and other OSErrors."""
    try:
        file = os.open(path, os.O_RDONLY | _NO_FOLLOW | _NO_WAIT)
    except FileNotFoundError:
        raise
    except OSError as exc:
        if path.is_symlink():
            raise UntrustedError(f"{path} is a link") from exc
        raise
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and _is_ours(status):
        return file
    os.close(file)
    raise UntrustedError(f"{path} is no file of ours")


def own_size(path: Path) -> int:
    """0 where there is no file of ours."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) and _is_ours(status) else 0


def _is_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()

"""How much memory this process may still take: what the machine has free, or less where a control group sets a limit.

A container sees its host's memory, while the kernel ends what goes beyond the limit of its control group. Pages of files count
as used there, though they are given back when memory is wanted, so they count as free here. Groups lie in each other: the
tightest one decides.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

_GROUPS: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")


def available_bytes(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int:
    free = int(psutil.virtual_memory().available)
    left = group_left_bytes(groups, mount)
    return free if left is None else min(free, left)


def group_left_bytes(groups: Path, mount: Path) -> int | None:
    """What the tightest of the process' control groups, of either version, leaves; None without a limit."""
    try:
        lines = groups.read_text().splitlines()
    except (OSError, ValueError):
        return None
    left: int | None = None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found = [_left(folder, "memory.max", "memory.current") for folder in _folders(mount, path)]
        elif "memory" in controllers.split(","):
            found = [
                _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes") for folder in _folders(mount / "memory", path)
            ]
        else:
            continue
        left = min((each for each in [left, *found] if each is not None), default=None)
    return left


def _folders(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it; a container may see its own as the mount itself."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _left(folder: Path, limit_name: str, used_name: str) -> int | None:
    limit, used = _number(folder / limit_name), _number(folder / used_name)
    if limit is None or used is None:
        return None
    return max(0, limit - max(0, used - _file_bytes(folder / "memory.stat")))


def _number(path: Path) -> int | None:
    """None where it says "max", or nothing."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _file_bytes(path: Path) -> int:
    """Pages of files; those used lately count half, as not all of them can go."""
    try:
        words = dict(line.split()[:2] for line in path.read_text().splitlines() if len(line.split()) >= 2)
    except (OSError, ValueError):
        return 0
    total = "total_" if "total_inactive_file" in words else ""
    idle, lately = words.get(f"{total}inactive_file", "0"), words.get(f"{total}active_file", "0")
    return (int(idle) if idle.isdigit() else 0) + (int(lately) // 2 if lately.isdigit() else 0)

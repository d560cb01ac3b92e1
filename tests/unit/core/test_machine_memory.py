"""What control groups leave of the machine's memory, over files as the kernel writes them."""

from pathlib import Path

import pytest

from corral.core.machine_memory import available_bytes, group_left_bytes

V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def machine(root: Path, groups: str, files: dict[str, tuple[tuple[str, str], str, int]]) -> tuple[Path, Path]:
    mount = root / "cgroup"
    mount.mkdir()
    for folder, (names, limit, used) in files.items():
        (mount / folder).mkdir(parents=True, exist_ok=True)
        (mount / folder / names[0]).write_text(f"{limit}\n")
        (mount / folder / names[1]).write_text(f"{used}\n")
    (root / "groups").write_text(groups)
    return root / "groups", mount


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {".": (V2, "1000", 300)}, 700),
        ("0::/\n", {".": (V2, "max", 300)}, None),
        ("0::/a/b\n", {"a": (V2, "500", 300), "a/b": (V2, "1000", 100)}, 200),
        ("0::/a/b\n", {"a": (V2, "500", 300), "a/b": (V2, "max", 100)}, 200),
        ("0::/host/path\n", {".": (V2, "1000", 100)}, 900),
        ("0::/../x\n", {".": (V2, "1000", 100)}, 900),
        ("0::/\n", {".": (V2, "100", 300)}, 0),
        ("5:cpu:/a\n4:cpuset,memory:/a\n0::/\n", {"memory/a": (V1, "900", 100)}, 800),
        ("4:memory:/a\n", {"memory": (V1, "600", 100)}, 500),
        ("4:cpu:/a\n", {"memory/a": (V1, "900", 100)}, None),
        ("0::/\n", {".": (V2, "\N{SUPERSCRIPT TWO}", 1)}, None),
        ("nonsense", {}, None),
        ("", {}, None),
    ],
    ids=[
        "one",
        "no-limit",
        "outer-is-tighter",
        "outer-only",
        "hosts-path",
        "path-above",
        "over-it",
        "v1",
        "v1-hosts-path",
        "v1-other",
        "no-number",
        "nonsense",
        "empty",
    ],
)
def test_the_tightest_group_decides(
    tmp_path: Path, groups: str, files: dict[str, tuple[tuple[str, str], str, int]], expected: int | None
) -> None:
    assert group_left_bytes(*machine(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("anon 50\ninactive_file 200\nactive_file 100\n", 650),
        ("inactive_file 1\ntotal_inactive_file 300\ntotal_active_file x\n", 700),
        ("inactive_file\n", 400),
    ],
    ids=["v2", "v1-with-those-below", "broken"],
)
def test_pages_of_files_are_given_back(tmp_path: Path, stat: str, expected: int) -> None:
    groups, mount = machine(tmp_path, "0::/", {".": (V2, "1000", 600)})
    (mount / "memory.stat").write_text(stat)
    assert group_left_bytes(groups, mount) == expected


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_bytes(tmp_path / "none", tmp_path) > 1 << 20
    groups, mount = machine(tmp_path, "0::/", {".": (V2, "1000", 300)})
    assert available_bytes(groups, mount) == 700

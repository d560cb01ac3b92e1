from pathlib import Path

from corral.engine.llamacpp import this_machine


def package(folder: Path, *names: str) -> Path:
    (folder / "lib").mkdir(parents=True)
    for name in names:
        (folder / "lib" / name).write_text(name)
    return folder


def test_the_processor_is_told_by_its_name(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 3 GHz\nmodel name\t: Other\n")
    found = this_machine(["CPU"], cpuinfo=info, package=package(tmp_path / "p"))
    assert found.cpu == "Some CPU @ 3 GHz"
    assert found.devices == ("CPU",)
    assert 1 <= found.cores <= found.threads


def test_a_processor_without_a_name_is_its_kind(tmp_path: Path) -> None:
    assert this_machine([], cpuinfo=tmp_path / "none", package=package(tmp_path / "p")).cpu


def test_another_build_of_the_libraries_is_another_machine(tmp_path: Path) -> None:
    folder = package(tmp_path / "p", "libllama.so", "notes.txt")
    before = this_machine([], package=folder)
    (folder / "lib" / "notes.txt").write_text("changed")
    assert this_machine([], package=folder) == before
    (folder / "lib" / "libllama.so").write_text("built anew, for this processor")
    assert this_machine([], package=folder).build != before.build


def test_this_machine_is_the_same_twice() -> None:
    assert this_machine(["CPU"]) == this_machine(["CPU"])

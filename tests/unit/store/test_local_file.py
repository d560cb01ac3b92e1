import errno
import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, ModelCorruptError, StoreError
from corral.store import LocalFileError, ModelName, Store
from corral.store.files import temporary_file
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model

NO_STOP = threading.Event()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = write_scripted(tmp_path / "a.gguf", "Hi!")
    path.chmod(0o644)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def can_clone(folder: Path) -> bool:
    first, one = temporary_file(folder)
    second, two = temporary_file(folder)
    try:
        os.write(first, b"x")
        fcntl.ioctl(second, 0x40049409, first)
    except OSError:
        return False
    finally:
        for fd, path in ((first, one), (second, two)):
            os.close(fd)
            path.unlink()
    return True


def blobs(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "blobs").iterdir())


def test_file_is_not_written_again(store: Store, gguf: Path) -> None:
    store.take_file(gguf, digest_of(gguf), NO_STOP)
    path = store.blob_path(digest_of(gguf))
    assert path
    assert path.read_bytes() == gguf.read_bytes()
    assert (path.stat().st_ino == gguf.stat().st_ino) != can_clone(store.root / "blobs")
    assert blobs(store) == [path.name]


def test_file_is_taken_twice(store: Store, gguf: Path) -> None:
    for _ in range(2):
        store.take_file(gguf, digest_of(gguf), NO_STOP)
    assert len(blobs(store)) == 1


def test_file_that_others_may_write_is_copied(store: Store, gguf: Path) -> None:
    gguf.chmod(0o666)
    store.take_file(gguf, digest_of(gguf), NO_STOP)
    path = store.blob_path(digest_of(gguf))
    assert path
    assert path.stat().st_ino != gguf.stat().st_ino
    assert path.read_bytes() == gguf.read_bytes()


def test_file_is_copied_where_links_are_not_possible(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr(os, "link", no_link)
    store.take_file(gguf, digest_of(gguf), NO_STOP)
    path = store.blob_path(digest_of(gguf))
    assert path
    assert path.stat().st_ino != gguf.stat().st_ino
    assert blobs(store) == [path.name]


def test_link_to_a_file_takes_the_file(store: Store, gguf: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(gguf)
    store.take_file(link, digest_of(gguf), NO_STOP)
    path = store.blob_path(digest_of(gguf))
    assert path
    assert not path.is_symlink()


def test_everything_else_is_refused_in_the_same_words(store: Store, gguf: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1234")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    digest = digest_of(gguf)
    refused: list[tuple[Path, str]] = [
        (secret, digest_of(secret)),  # it says so, and a digest that was guessed would tell what is in it
        (tmp_path / "nothing", digest),
        (tmp_path, digest),
        (pipe, digest),
        (Path("/dev/zero"), digest),
        (Path("/proc/self/mem"), digest),  # a regular file by its mode, whose first byte cannot be read
        (Path("/proc/self/pagemap"), digest),
        (loop, digest),
        (Path("a.gguf"), digest),
        (Path("/nul\0"), digest),
        (Path("/" + "x" * 10_000), digest),
        (gguf, "sha256:" + "0" * 64),
    ]
    texts = set()
    for path, wanted in refused:
        with pytest.raises(LocalFileError) as caught:
            store.take_file(path, wanted, NO_STOP)
        texts.add(str(caught.value))
    assert texts == {"this server does not take that file by its path; upload it"}
    gguf.chmod(0o666)
    with pytest.raises(LocalFileError):
        store.take_file(gguf, "sha256:" + "0" * 64, NO_STOP)
    assert blobs(store) == []


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_device_is_not_even_opened(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    opened: list[str] = []
    real = os.open

    def noted(file: str | Path, flags: int, mode: int = 0o777) -> int:
        opened.append(str(file))
        return real(file, flags, mode)

    monkeypatch.setattr(os, "open", noted)
    with pytest.raises(LocalFileError):
        store.take_file(Path(path), digest_of(gguf), NO_STOP)
    assert path not in opened


def test_digest_that_is_none_is_refused(store: Store, gguf: Path) -> None:
    with pytest.raises(BadRequestError, match="invalid digest format"):
        store.take_file(gguf, "sha256:zz", NO_STOP)


def test_taking_a_file_can_be_given_up(store: Store, gguf: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoreError, match="given up"):
        store.take_file(gguf, digest_of(gguf), stop)
    assert blobs(store) == []


def test_edited_source_is_noticed(store: Store, gguf: Path) -> None:
    """Where the file was linked; a clone and a copy have nothing to notice."""
    gguf.chmod(0o644)
    digest = digest_of(gguf)
    store.take_file(gguf, digest, NO_STOP)
    model = add_model(store, "m", gguf)
    if model.model_path.stat().st_ino != gguf.stat().st_ino:
        pytest.skip("this file system clones")
    assert store.keep_blob(digest)
    data = bytearray(gguf.read_bytes())
    data[-1] ^= 1
    gguf.write_bytes(data)
    with pytest.raises(ModelCorruptError, match=r"'m:latest' is damaged.*written after the model was made"):
        store.get(ModelName.parse("m"))
    assert not store.keep_blob(digest)  # so a client uploads it, which makes it whole again
    data[-1] ^= 1
    with store.start_blob(digest) as writer:
        writer.write(bytes(data))
        writer.commit()
    assert store.get(ModelName.parse("m")).digest == model.digest


def test_source_that_is_replaced_or_removed_leaves_the_blob(store: Store, gguf: Path) -> None:
    digest = digest_of(gguf)
    store.take_file(gguf, digest, NO_STOP)
    add_model(store, "m", gguf)
    write_scripted(gguf.with_name("new"), "Something else.").replace(gguf)
    assert store.get(ModelName.parse("m")).gguf.architecture == "llama"

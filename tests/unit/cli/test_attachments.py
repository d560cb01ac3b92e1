import base64
from pathlib import Path

import pytest

from corral.cli.attachments import IMAGE, AttachmentError, attach, left_out

PNG = b"\x89PNG\r\n\x1a\n rest"
WAV = b"RIFF\x00\x00\x00\x00WAVE rest"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.PNG", "my pic.png", "sub dir/c.png", "it's.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "s.wav").write_bytes(WAV)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "left", "paths"),
    [
        pytest.param("what is ./a.png", "what is", ["./a.png"], id="relative"),
        pytest.param("./a.png ./b.PNG compare", "compare", ["./a.png", "./b.PNG"], id="two"),
        pytest.param("see './my pic.png'.", "see .", ["./my pic.png"], id="quoted-with-space"),
        pytest.param('see "./a.png"', "see", ["./a.png"], id="double-quotes"),
        pytest.param("see ./my\\ pic.png now", "see  now", ["./my pic.png"], id="escaped-space"),
        pytest.param("see ./sub dir/c.png", "see", ["./sub dir/c.png"], id="bare-space"),
        pytest.param("see './it'\\''s.png'", "see", ["./it's.png"], id="escaped-quote"),
        pytest.param(
            "in ./sub dir is nothing, in ./a.png much", "in ./sub dir is nothing, in  much", ["./a.png"], id="longest"
        ),
        pytest.param("./gone.png and ./a.png", "./gone.png and", ["./a.png"], id="missing-stays-text"),
        pytest.param("http://x/a.png", "http://x/a.png", [], id="address"),
        pytest.param("a.png", "a.png", [], id="bare-name"),
        pytest.param("./a.pngx", "./a.pngx", [], id="other-ending"),
        pytest.param("./s.wav", "./s.wav", [], id="sound-for-a-model-that-only-sees"),
        pytest.param(f"/{'x' * 5000}.png", f"/{'x' * 5000}.png", [], id="too-long-for-a-path"),
    ],
)
def test_attach_takes_paths_out_of_the_text(text: str, left: str, paths: list[str]) -> None:
    found = attach(text, {"vision"})
    assert (found.text, [file.path for file in found.files]) == (left, paths)
    assert all(base64.b64decode(file.data) == PNG for file in found.files)


def test_attach_takes_absolute_paths_and_the_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert [file.path for file in attach(f"{folder}/a.png and ~/b.PNG", {"vision"}).files] == [f"{folder}/a.png", "~/b.PNG"]


def test_attach_leaves_all_text_to_a_model_that_reads_only() -> None:
    assert attach("./a.png ./s.wav", {"completion"}).text == "./a.png ./s.wav"


def test_attach_takes_sounds_for_a_model_that_hears() -> None:
    (file,) = attach("./s.wav what?", {"audio"}).files
    assert (file.kind.name, base64.b64decode(file.data)) == ("audio", WAV)


def test_attach_refuses_what_is_no_picture(folder: Path) -> None:
    (folder / "fake.png").write_text("text")
    with pytest.raises(AttachmentError, match=r"cannot attach './fake.png': it is no JPEG, PNG or WebP image"):
        attach("./fake.png", {"vision"})


def test_attach_refuses_what_is_too_large(folder: Path) -> None:
    with (folder / "big.png").open("wb") as out:
        out.truncate(100 * 1024 * 1024 + 1)
    with pytest.raises(AttachmentError, match="104857601 bytes, and 104857600 are taken"):
        attach("./big.png", {"vision"})


def test_what_a_model_cannot_take_stays_text_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    text = f"what is {tmp_path}/a.png?"
    found = attach(text, ["completion"])
    assert (found.text, found.files, found.left_out) == (text, (), ((f"{tmp_path}/a.png", IMAGE),))
    assert left_out("./a.png", IMAGE, "m") == "'./a.png' is sent as text: m does not support vision\n"

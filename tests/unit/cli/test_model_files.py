from pathlib import Path

import pytest

from corral.cli.create import plan
from corral.cli.model_files import ModelFile, ModelFileError, files_at, named_apart
from corral.store import ModelfileError, parse_modelfile


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(text: str, folder: Path) -> list[str]:
    found = files_at(text, folder)
    assert found is not None
    return [file.name for file in found]


@pytest.mark.parametrize("text", ["a.gguf", "./a.gguf", "sub/../a.gguf", "{folder}/a.gguf"])
def test_path_is_taken_from_the_folder_on(tmp_path: Path, text: str) -> None:
    write(tmp_path, "a.gguf")
    assert files_at(text.format(folder=tmp_path), tmp_path) == [ModelFile("a.gguf", tmp_path / "a.gguf")]


def test_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    write(tmp_path, "me/a.gguf")
    assert names("~/a.gguf", tmp_path / "elsewhere") == ["a.gguf"]
    with pytest.raises(ModelFileError, match="no such user"):
        files_at("~nobody-of-that-name/a.gguf", tmp_path)


@pytest.mark.parametrize("text", ["llama3", "me/model:8b", "hf.co/me/Model-GGUF:Q4_K_M", "a b", "x\0y", "n" * 9999])
def test_what_leads_to_nothing_is_a_name(tmp_path: Path, text: str) -> None:
    assert files_at(text, tmp_path) is None


@pytest.mark.parametrize("text", ["./model", "../model", "/nothing/here", "model.gguf", "sub/model.safetensors", "./x\0"])
def test_path_to_nothing_is_an_error_and_no_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelFileError, match=r"No such file|null byte"):
        files_at(text, tmp_path)


def test_one_shard_stands_for_all(tmp_path: Path) -> None:
    write(tmp_path, *(f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)), "m-00001-of-00002.gguf")
    wanted = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert names("m-00001-of-00003.gguf", tmp_path) == wanted
    assert names("m-00003-of-00003.gguf", tmp_path) == wanted
    with pytest.raises(ModelFileError, match=r"m-00001-of-00002\.gguf is one of 2 files, and m-00002-of-00002\.gguf is not"):
        files_at("m-00001-of-00002.gguf", tmp_path)


def test_safetensors_file_is_refused_for_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "m/model.safetensors", "m/config.json")
    with pytest.raises(ModelFileError, match=rf"^{tmp_path}/m/model\.safetensors is only the weights, .*: {tmp_path}/m$"):
        files_at("./m/model.safetensors", tmp_path)


def test_folder_of_safetensors_comes_with_what_belongs_to_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        *("model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "1_Pooling/config.json", "chat_template.jinja"),
        *("pytorch_model.bin", "README.md", "onnx/model.onnx", "modeling.py", "a/b/deep.json", ".git/config", "x.gguf"),
    )
    wanted = ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json", "chat_template.jinja", "vocab.txt"]
    assert names(".", tmp_path) == wanted
    assert names(str(tmp_path), Path("/")) == wanted


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["model-1-of-2.safetensors", "model-2-of-2.safetensors", "config.json"], None),
        (["consolidated.safetensors", "params.json"], None),
        (["adapter_model.safetensors", "adapter_config.json"], None),
        (["pytorch_model.bin", "config.json"], None),
        (["a.gguf", "mmproj.gguf", "config.json"], ["a.gguf", "mmproj.gguf"]),
    ],
    ids=["shards", "consolidated", "adapter", "pytorch", "ggufs alone"],
)
def test_folder_gives_the_weights_that_it_has(tmp_path: Path, there: list[str], wanted: list[str] | None) -> None:
    write(tmp_path, *there)
    assert names(".", tmp_path) == (wanted or there)


def test_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "config.json")
    with pytest.raises(ModelFileError, match="no Modelfile or safetensors files found"):
        files_at(".", tmp_path)


def test_folder_does_not_lead_out_of_itself(tmp_path: Path) -> None:
    write(tmp_path, "secret", "m/config.json", "m/real.bin")
    (tmp_path / "m" / "model.safetensors").symlink_to("real.bin")
    assert names("m", tmp_path) == ["model.safetensors", "config.json"]
    (tmp_path / "m" / "tokenizer.json").symlink_to("../secret")
    with pytest.raises(ModelFileError, match="insecure path"):
        files_at("m", tmp_path)


def test_download_cache_may_lead_to_its_blobs(tmp_path: Path) -> None:
    write(tmp_path, "models--me--m/blobs/123", "models--me--m/snapshots/rev/config.json")
    link = tmp_path / "models--me--m/snapshots/rev/model.safetensors"
    link.symlink_to("../../blobs/123")
    found = files_at(str(link.parent), Path("/"))
    assert found
    assert found[0] == ModelFile("model.safetensors", tmp_path / "models--me--m/blobs/123")


def test_pointer_of_git_lfs_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    with pytest.raises(ModelFileError, match="git lfs pull"):
        files_at(".", tmp_path)


def test_two_files_of_one_name_are_kept_apart() -> None:
    one, two = ModelFile("m.gguf", Path("/a/m.gguf")), ModelFile("m.gguf", Path("/b/m.gguf"))
    assert named_apart([one, two, one]) == [one, ModelFile("2/m.gguf", two.path)]


def test_plan_is_the_request_and_the_files(tmp_path: Path) -> None:
    write(tmp_path, "a.gguf", "mmproj.gguf", "lora.gguf", "draft.gguf")
    text = (
        "FROM a.gguf\nFROM ./mmproj.gguf\nADAPTER lora.gguf\nDRAFT draft.gguf\nSYSTEM one\nSYSTEM two\nTEMPLATE {{ .Prompt }}\n"
        "LICENSE MIT\nLICENSE Apache\nMESSAGE user hi\nMESSAGE assistant ho: hum\nPARAMETER stop a\nPARAMETER stop b\n"
        "PARAMETER temperature 1\nPARAMETER temperature 0.5\nPARAMETER low_vram true\nRENDERER r\nPARSER p\nREQUIRES v0.14.0\n"
    )
    made = plan(parse_modelfile(text), tmp_path)
    assert made.body == {
        "system": "two",
        "template": "{{ .Prompt }}",
        "license": ["MIT", "Apache"],
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho: hum"}],
        "parameters": {"stop": ["a", "b"], "temperature": 0.5},
        "renderer": "r",
        "parser": "p",
        "requires": "0.14.0",
    }
    assert {role: [file.name for file in files] for role, files in made.files.items()} == {
        "files": ["a.gguf", "mmproj.gguf"],
        "adapters": ["lora.gguf"],
        "draft_files": ["draft.gguf"],
    }
    assert made.warnings == ["warning: parameter low_vram is deprecated"]


def test_first_name_is_the_base_and_the_second_is_told(tmp_path: Path) -> None:
    made = plan(parse_modelfile("FROM llama3\nFROM mistral\nFROM llama3\n"), tmp_path)
    assert made.body == {"from": "llama3"}
    assert made.warnings == ["warning: FROM mistral (line 2) is ignored: it is no file, and the model is made from llama3"]


@pytest.mark.parametrize(
    ("text", "error", "complaint"),
    [
        ("FROM x\nADAPTER lora", ModelFileError, r"ADAPTER lora \(line 2\): there is no such file or folder"),
        ("FROM x\nDRAFT draft", ModelFileError, r"DRAFT draft \(line 2\): there is no such file or folder"),
        ("FROM a.gguf\nDRAFT ./a.gguf", ModelFileError, "DRAFT must not reference the same local path as FROM"),
        ("FROM x\nPARAMETER wings 2", ModelfileError, r"unknown parameter 'wings' \(line 2\)"),
    ],
    ids=["adapter", "draft", "draft of itself", "parameter"],
)
def test_plan_refuses(tmp_path: Path, text: str, error: type[Exception], complaint: str) -> None:
    write(tmp_path, "a.gguf")
    with pytest.raises(error, match=complaint):
        plan(parse_modelfile(text), tmp_path)

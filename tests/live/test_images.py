"""Images and sounds over HTTP, through the command line, and through Ollama's and OpenAI's own packages."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from tests.support.gguf_files import write_random
from tests.support.gguf_vision import MLP_TOKENS, SOUND_TOKENS, picture, sound, write_seeing
from tests.support.process import Server, run_corral, serving

PLAIN = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
SHORT = {"num_predict": 8, "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`eyes` sees, `ears` hears, `text` does neither."""
    with serving(tmp_path_factory.mktemp("home")) as made:
        made.add(*_files(tmp_path_factory.mktemp("eyes"), "mlp", "eyes"), template=PLAIN)
        made.add(*_files(tmp_path_factory.mktemp("ears"), "ultravox", "ears"), template=PLAIN)
        made.add(write_random(tmp_path_factory.mktemp("text") / "text.gguf"), "text", template=PLAIN)
        yield made


def _files(folder: Path, kind: Any, name: str) -> tuple[Path, str, Path]:
    text, projector = write_seeing(folder, kind)
    return text, name, projector


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def post(server: Server, path: str, **body: object) -> tuple[int, dict[str, Any]]:
    status, said = server.call("POST", path, {"stream": False, "options": SHORT, **body})
    return status, json.loads(said)


def chat(server: Server, *messages: dict[str, object], **more: object) -> dict[str, Any]:
    status, answer = post(server, "/api/chat", messages=messages, **{"model": "eyes", **more})
    assert status == 200, answer
    return answer


def user(content: str, *images: bytes) -> dict[str, object]:
    return {"role": "user", "content": content, **({"images": [encoded(image) for image in images]} if images else {})}


def test_show_says_who_sees_and_who_hears(server: Server) -> None:
    can = {name: post(server, "/api/show", model=name)[1]["capabilities"] for name in ("eyes", "ears", "text")}
    assert ("vision" in can["eyes"], "audio" in can["eyes"]) == (True, False)
    assert ("vision" in can["ears"], "audio" in can["ears"]) == (False, True)
    assert ("vision" in can["text"], "audio" in can["text"]) == (False, False)


def test_chat_answers_about_images(server: Server) -> None:
    bare = chat(server, user("What is this?"))
    one = chat(server, user("What is this?", picture(1)))
    two = chat(server, user("What is this?", picture(1), picture(2)))
    assert one["prompt_eval_count"] == bare["prompt_eval_count"] + MLP_TOKENS
    assert two["prompt_eval_count"] == bare["prompt_eval_count"] + 2 * MLP_TOKENS
    assert one["message"]["content"]


def test_a_second_turn_goes_on_from_the_first(server: Server) -> None:
    first = chat(server, user("What is to be seen in here?", picture(3)))
    turns = [user("What is to be seen in here?", picture(3)), first["message"], user("Is that all?")]
    second = chat(server, *turns)
    assert second["prompt_eval_count"] > first["prompt_eval_count"]
    third = chat(server, *turns, second["message"], user("And in this?", picture(4)))
    assert third["prompt_eval_count"] > second["prompt_eval_count"] + MLP_TOKENS


def test_chat_streams_an_answer_about_an_image(server: Server) -> None:
    messages = [user("What is this?", picture(1))]
    body = {"model": "eyes", "messages": messages, "options": SHORT}
    status, said = server.call("POST", "/api/chat", body)
    lines = [json.loads(line) for line in said.splitlines()]
    assert status == 200
    assert "".join(line["message"]["content"] for line in lines) == chat(server, *messages)["message"]["content"]
    assert lines[-1]["done_reason"] == "length"


def test_generate_answers_about_images_with_and_without_tags(server: Server) -> None:
    images = [encoded(picture(1)), encoded(picture(2))]
    status, before = post(server, "/api/generate", model="eyes", prompt="What is this?", images=images)
    assert status == 200
    status, within = post(server, "/api/generate", model="eyes", prompt="What is [img] beside [img]?", images=images)
    assert status == 200
    assert within["prompt_eval_count"] > before["prompt_eval_count"]
    status, raw = post(server, "/api/generate", model="eyes", prompt="[img-1] and [img-0]:", images=images, raw=True)
    assert (status, raw["prompt_eval_count"]) == (200, 2 * MLP_TOKENS + len(" and :"))


def test_a_sound_is_heard(server: Server) -> None:
    bare = chat(server, user("What is this?"), model="ears")
    heard = chat(server, user("What is this?", sound()), model="ears")
    assert heard["prompt_eval_count"] == bare["prompt_eval_count"] + SOUND_TOKENS


@pytest.mark.parametrize(
    ("model", "image", "error"),
    [
        pytest.param("eyes", b"text", "image 1 cannot be read: it is no JPEG, PNG, GIF, BMP or WebP", id="text"),
        pytest.param("eyes", picture()[:99], "image 1 cannot be read: it is broken", id="cut"),
        pytest.param("eyes", sound(), "sound 1 cannot be read: this model cannot hear", id="sound"),
        pytest.param("ears", picture(), "image 1 cannot be read: it is no WAV, MP3 or FLAC", id="image-for-ears"),
        pytest.param("text", picture(), '"text" does not support vision', id="text-model"),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
def test_what_cannot_be_shown_is_a_400(
    server: Server, path: str, is_streamed: bool, model: str, image: bytes, error: str
) -> None:
    what: dict[str, object] = (
        {"messages": [user("What?", image)]} if path == "/api/chat" else {"prompt": "What?", "images": [encoded(image)]}
    )
    status, said = server.call("POST", path, {"model": model, "stream": is_streamed, **what})
    assert status == 400
    assert json.loads(said)["error"].startswith(error)


def test_raw_text_without_a_place_for_its_image_is_a_400(server: Server) -> None:
    status, answer = post(server, "/api/generate", model="eyes", prompt="What?", images=[encoded(picture())], raw=True)
    assert (status, answer["error"]) == (400, "image 1 has no place in the prompt; put [img-0] where it belongs")


def test_images_that_do_not_fit_are_a_400_with_both_numbers(server: Server) -> None:
    images = [encoded(picture(seed)) for seed in range(140)]
    status, answer = post(server, "/api/generate", model="eyes", prompt="What?", images=images, options={"num_ctx": 2048})
    assert status == 400
    assert str(140 * MLP_TOKENS + len("user: What?\n")) in answer["error"]
    assert "2048" in answer["error"]


def test_old_turns_with_images_make_room(server: Server) -> None:
    turns = [user(f"{number}. What is this?", picture(number), picture(number + 1)) for number in range(80)]
    answer = chat(server, *turns, options={"num_ctx": 2048, **SHORT})
    assert answer["prompt_eval_count"] < 2048
    assert answer["truncated"] is True


def test_ollamas_package_sends_images(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(1))
    with ollama.Client(server.url) as client:
        answer = client.chat("eyes", [{"role": "user", "content": "What is this?", "images": [file]}], options=SHORT)
    assert answer.message.content == chat(server, user("What is this?", picture(1)))["message"]["content"]


def test_openais_package_sends_images(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="eyes",
            max_tokens=8,
            temperature=0,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(picture(1))}"}},
                    ],
                }
            ],
        )
    assert answer.usage
    assert answer.usage.prompt_tokens == chat(server, user("What is this?", picture(1)))["prompt_eval_count"]


def test_the_command_line_sends_the_images_that_a_prompt_names(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(picture(1))
    ran = run_corral(server, "run", "eyes", f"What is in '{tmp_path}/a b.png' and why?", timeout_s=60)
    assert ran.code == 0, ran.err
    assert "a b.png" in ran.out + ran.err
    (tmp_path / "broken.png").write_bytes(picture(1)[:99])
    ran = run_corral(server, "run", "eyes", f"What is in {tmp_path}/broken.png?")
    assert ran.code == 1
    assert "cannot be read" in ran.err

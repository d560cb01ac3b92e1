import json
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Message
from corral.template import CHATML, Conversation, choose, compile_go, compile_jinja, detect_family
from corral.template.formats import EOS, FAMILIES
from tests.support.conversations import RECORDED
from tests.support.rendering import PROCESSES
from tests.support.shared import shared_files, shared_lines

TURNS = (
    Message(role="user", content="one"),
    Message(role="assistant", content="two"),
    Message(role="user", content="three"),
)
LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("line", shared_lines("testdata/families.jsonl"))
def test_known_template_is_recognised(line: str) -> None:
    ((name, jinja),) = json.loads(line).items()
    family = detect_family(jinja)
    assert family
    assert family.name == name


@pytest.mark.parametrize("path", shared_files("testdata/jinja"), ids=lambda path: path.stem)
def test_template_with_tools_or_thoughts_keeps_its_own_text(path: Path) -> None:
    jinja = compile_jinja(path.read_text())
    if jinja.has_tools or jinja.has_thinking:
        assert detect_family(path.read_text()) is None


@pytest.mark.parametrize(
    ("jinja", "name"),
    [
        (LOOP + "<|im_start|>assistant\n", "chatml"),
        ("{{ bos_token }}" + LOOP + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "chatml"),
        (LOOP, None),  # it does not ask for an answer
        (LOOP.replace("<|im_end|>", "<|other|>") + "<|im_start|>assistant\n", None),
        ("{% if tools %}{% endif %}" + LOOP + "<|im_start|>assistant\n", None),
        ("{% if x %}<think>{% endif %}" + LOOP + "<|im_start|>assistant\n", None),
        ("{{ messages[0].content }}", None),
        ("{{ raise_exception('no') }}", None),
        ("{% if %}", None),
        ("", None),
        ("{# " + "long " * 5000 + "#}" + LOOP + "<|im_start|>assistant\n", None),
    ],
    ids=["loop", "bos", "no answer", "other mark", "tools", "thoughts", "one turn", "refuses", "syntax", "empty", "long"],
)
def test_family_is_recognised_by_what_the_template_does(jinja: str, name: str | None) -> None:
    family = detect_family(jinja)
    assert (family.name if family else None) == name


@pytest.mark.parametrize("index", range(len(FAMILIES)), ids=[family.name for family, _ in FAMILIES])
def test_go_template_of_a_family_has_the_marks_it_is_recognised_by(index: int) -> None:
    family, marks = FAMILIES[index]
    text = compile_go(family.template.replace(EOS, "")).render(Conversation(messages=TURNS))
    squeezed = "".join(text.split()).replace("<<SYS>><</SYS>>", "").replace("<s>", "")  # Llama 2's, which nothing asks for
    before, rest = squeezed.split("one", 1)
    answer, rest = rest.split("two", 1)
    next_user, end = rest.split("three", 1)
    assert before.endswith(marks.user)
    assert (answer, end) == (marks.answer, marks.end or marks.answer)
    assert next_user in marks.next_user


@pytest.mark.parametrize("case", RECORDED)
@pytest.mark.parametrize("folder", shared_files("testdata/gotmpl"), ids=lambda path: path.stem)
def test_go_template_of_a_family_renders_as_ollamas_does(folder: Path, case: str) -> None:
    (family,) = (family for family, _ in FAMILIES if family.name == folder.stem)
    template = compile_go(family.template.replace(EOS, "</s>"))
    assert template.render(Conversation(messages=RECORDED[case])) == (folder / f"{case}.expected").read_text()


@pytest.mark.parametrize("index", range(len(FAMILIES)), ids=[family.name for family, _ in FAMILIES])
def test_go_template_of_a_family_says_the_system_text_once(index: int) -> None:
    template = compile_go(FAMILIES[index][0].template.replace(EOS, "</s>"))
    text = template.render(Conversation(messages=(Message(role="system", content="be brief"), *TURNS)))
    assert text.count("be brief") == 1
    assert text.index("be brief") < text.index("one") < text.index("two") < text.index("three")


def test_end_token_of_the_model_ends_its_turns() -> None:
    jinja = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}{{ '<|assistant|>\n' }}"
    family = detect_family(jinja, eos_token="<end>")
    assert family
    assert family.name == "zephyr"
    assert "<end>" in family.stop
    conversation = Conversation(messages=TURNS)
    assert compile_go(family.template).render(conversation) == compile_jinja(jinja, eos_token="<end>").render(
        conversation, processes=PROCESSES
    )
    other = detect_family(jinja, eos_token="{{ .System }}")
    assert other
    assert "</s>" in other.stop


def test_chatml_has_the_stops_that_ollama_gives_it() -> None:
    family = detect_family(LOOP + "<|im_start|>assistant\n")
    assert family
    assert (family.template, family.stop) == (CHATML, ("<|im_start|>", "<|im_end|>"))


def test_choose_takes_the_go_layer_then_jinja_then_chatml() -> None:
    conversation = Conversation(messages=TURNS[:1])
    given = {"bos_token": "<s>", "eos_token": "</s>"}
    assert choose("{{ .Prompt }}!", "{{ bos_token }}", **given).render(conversation) == "one!"
    assert choose(None, "{{ bos_token }}", **given).render(conversation, processes=PROCESSES) == "<s>"
    assert choose(None, None, **given).source == CHATML
    assert [choose(*texts, **given).kind for texts in (("", "x"), (None, "x"))] == ["go", "jinja"]
    with pytest.raises(BadRequestError):
        choose("{{", None, **given)

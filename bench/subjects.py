"""The models that the table is measured with, and how a run of it is set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peers import HOME, gemma3, minilm, smollm2_q4_0

SLOT_TOKENS: Final = 4096  # what Ollama and Corral give a request that asks for no other; holds a prompt of 3,000 tokens


@dataclass(frozen=True, slots=True)
class Subject:
    """Both sides get the same chat template, each in its own language: what files bring is read in different ways.

    The one of SmolLM2 puts a system prompt of its makers before the first question, which Corral, as Ollama, leaves out.
    """

    title: str
    gguf: Callable[[], Path]
    go_template: str = ""
    jinja_template: str = ""
    slot_tokens: int = SLOT_TOKENS
    own_peer_options: tuple[str, ...] = ()

    def peer_options(self, slots: int) -> list[str]:
        """What llama.cpp's server is told of it: as much context for each slot as Corral gives a request, and the template.

        Without a number it takes the context that the model was trained with, and divides it among the slots.
        """
        options = ["-c", str(self.slot_tokens * slots), *self.own_peer_options]
        if not self.jinja_template:
            return options
        HOME.mkdir(parents=True, exist_ok=True)
        path = HOME / f"{self.gguf().stem}.jinja"
        path.write_text(self.jinja_template)
        return [*options, "--chat-template-file", str(path)]


SUBJECTS: Final[Mapping[str, Subject]] = {
    "smollm2": Subject(
        "SmolLM2 135M Instruct, Q4_0",
        smollm2_q4_0,
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{{ '<|im_start|>assistant\\n' }}",
    ),
    "gemma3": Subject(
        "Gemma 3 270M base, Q4_K_M",
        gemma3,
        '{{ range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}\n'
        "{{ .Content }}<end_of_turn>\n{{ end }}<start_of_turn>model\n",
        "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n'"
        " + message['content'] + '<end_of_turn>\\n' }}{% endfor %}{{ '<start_of_turn>model\\n' }}",
    ),
}


EMBEDDER: Final = Subject("all-MiniLM-L6-v2, F16", minilm, slot_tokens=512, own_peer_options=("--embedding",))


@dataclass(frozen=True, slots=True)
class Setting:
    """How a table is measured."""

    subject: Subject
    rounds: int
    is_quick: bool
    seed: int
    tell: Callable[[str], None]

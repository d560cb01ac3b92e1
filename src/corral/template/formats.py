"""The chat formats that are known by name: a Go template of our own for each, and the marks that it is recognised by.

Each renders as Ollama's template of that name does; how a format is recognised is families.py's business.
"""

from dataclasses import dataclass
from typing import Final

CHATML: Final = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
EOS: Final = "\N{END OF TEXT}"  # stands for the model's own end token in the templates below


@dataclass(frozen=True, slots=True)
class Family:
    """A chat format: its Go template, and the texts that end an answer."""

    name: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands around the turns of a conversation, white space left out."""

    user: str  # before a user's text
    answer: str  # between a user's text and the answer
    next_user: tuple[str, ...]  # between an answer and the next user's text, in any of these forms
    end: str = ""  # after the last user's text, where it is not the same as `answer`
    system: str | None = None  # "": the system text is not marked by it; None: whatever


def _turns(*, system: str, user: str, assistant: str, end: str) -> str:
    """A Go template that writes one text for each turn; `$text` stands for what is said there."""
    turns = (
        f'{{{{ if eq .Role "system" }}}}{system}{{{{ else if eq .Role "user" }}}}{user}'
        f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}'
    )
    return f"{{{{- range .Messages }}}}{turns}{{{{ end }}}}{end}".replace("$text", "{{ .Content }}")


def _folded(*, user: str, assistant: str, end: str, system: str = "$text\n\n", after: str = "") -> str:
    """The same where a system text has no turn of its own: it is said at the head of the next user's turn, before `after`."""
    head = "{{ if $system }}" + system.replace("$text", "{{ $system }}") + '{{ $system = "" }}{{ end }}' + after + "$text"
    kept = _turns(system="{{ $system = .Content }}", user=user.replace("$text", head), assistant=assistant, end=end)
    return '{{- $system := "" }}' + kept


FAMILIES: Final[tuple[tuple[Family, Marks], ...]] = (
    (
        Family("chatml", CHATML, ("<|im_start|>", "<|im_end|>")),
        Marks("<|im_start|>user", "<|im_end|><|im_start|>assistant", ("<|im_end|><|im_start|>user",)),
    ),
    (
        Family(
            "llama3-instruct",
            "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
        Marks(
            "<|start_header_id|>user<|end_header_id|>",
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>",
            ("<|eot_id|><|start_header_id|>user<|end_header_id|>",),
        ),
    ),
    (
        Family(
            "gemma-instruct",
            _folded(
                user="<start_of_turn>user\n$text<end_of_turn>\n",
                assistant="<start_of_turn>model\n$text<end_of_turn>\n",
                end="<start_of_turn>model\n",
                system="$text\n",
            ),
            ("<start_of_turn>", "<end_of_turn>"),
        ),
        Marks(
            "<start_of_turn>user",
            "<end_of_turn><start_of_turn>model",
            ("<end_of_turn><start_of_turn>user",),
        ),
    ),
    (
        Family(
            "phi-3",
            "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n",
            ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        ),
        Marks("<|user|>", "<|end|><|assistant|>", ("<|end|><|user|>",)),
    ),
    (
        Family(
            "zephyr",
            f"{{{{- range .Messages }}}}<|{{{{ .Role }}}}|>\n{{{{ .Content }}}}{EOS}\n{{{{ end }}}}<|assistant|>\n",
            ("<|system|>", "<|user|>", "<|assistant|>", EOS),
        ),
        Marks("<|user|>", "<|assistant|>", ("<|user|>",)),
    ),
    (
        Family(
            "llama2-chat",
            _folded(
                user="[INST] <<SYS>>$text [/INST]",
                assistant=f" $text{EOS}<s>",
                end="",
                system="\n$text\n",
                after="<</SYS>>\n\n",
            ),
            ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        ),
        Marks("[INST]", "[/INST]", ("[INST]",), system="<<SYS>>"),
    ),
    (
        Family(
            "mistral-instruct", _folded(user="[INST] $text[/INST]", assistant=f" $text{EOS}", end=""), ("[INST]", "[/INST]")
        ),
        Marks("[INST]", "[/INST]", ("[INST]",), system=""),
    ),
    (
        Family(
            "openchat",
            '{{- range .Messages }}GPT4 Correct {{ if eq .Role "system" }}System{{ else if eq .Role "assistant" }}Assistant'
            "{{ else }}User{{ end }}: {{ .Content }}<|end_of_turn|>{{ end }}GPT4 Correct Assistant:",
            ("<|end_of_turn|>",),
        ),
        Marks("GPT4CorrectUser:", "<|end_of_turn|>GPT4CorrectAssistant:", ("<|end_of_turn|>GPT4CorrectUser:",)),
    ),
    (
        Family(
            "vicuna",
            _turns(system="$text\n\n", user="USER: $text\n", assistant=f"ASSISTANT: $text{EOS}\n", end="ASSISTANT:"),
            ("USER:", "ASSISTANT:"),
        ),
        Marks("USER:", "ASSISTANT:", ("USER:",)),
    ),
    (
        Family(
            "alpaca",
            _turns(
                system="$text\n\n",
                user="### Instruction:\n$text\n\n",
                assistant="### Response:\n$text\n\n",
                end="### Response:\n",
            ),
            ("### Instruction:", "### Response:"),
        ),
        Marks("###Instruction:", "###Response:", ("###Instruction:", "<|EOT|>###Instruction:")),
    ),
    (
        Family(
            "starcoder2-instruct",
            _turns(
                system="$text\n\n",
                user="### Instruction\n$text\n\n",
                assistant=f"### Response\n$text{EOS}\n\n",
                end="### Response\n",
            ),
            ("### Instruction", "### Response", EOS),
        ),
        Marks("###Instruction", "###Response", ("###Instruction",)),
    ),
    (
        Family(
            "magicoder",
            _turns(
                system="$text\n\n",
                user="@@ Instruction\n$text\n\n",
                assistant="@@ Response\n$text\n\n",
                end="@@ Response\n",
            ),
            ("@@ Instruction", "@@ Response"),
        ),
        Marks("@@Instruction", "@@Response", ("@@Instruction",)),
    ),
    (
        Family(
            "solar-instruct",
            _turns(
                system="### System:\n$text\n\n",
                user="### User:\n$text\n\n",
                assistant=f"### Assistant:\n$text{EOS}\n\n",
                end="### Assistant:\n",
            ),
            ("### System:", "### User:", "### Assistant:"),
        ),
        Marks("###User:", "###Assistant:", ("###User:",)),
    ),
    (
        Family(
            "chatqa",
            _turns(system="System: $text\n\n", user="User: $text\n\n", assistant="Assistant: $text\n\n", end="Assistant:"),
            ("System:", "User:", "Assistant:"),
        ),
        Marks("User:", "Assistant:", ("User:",)),
    ),
    (
        Family(
            "falcon-instruct",
            _turns(system="System: $text\n", user="User:\n$text\n", assistant="Falcon:\n$text\n", end="Falcon:\n"),
            ("User:", "Falcon:"),
        ),
        Marks("User:", "Falcon:", ("User:",)),
    ),
    (
        Family(
            "granite-instruct",
            _turns(system="System:\n$text\n\n", user="Question:\n$text\n\n", assistant="Answer:\n$text\n\n", end="Answer:\n"),
            ("System:", "Question:", "Answer:"),
        ),
        Marks("Question:", "Answer:", ("Question:",)),
    ),
    (
        Family(
            "alfred",
            "{{- range .Messages }}<start_{{ .Role }}>{{ .Content }}<end_message>{{ end }}<start_assistant>",
            ("<start_system>", "<start_user>", "<start_assistant>", "<end_message>"),
        ),
        Marks("<start_user>", "<end_message><start_assistant>", ("<end_message><start_user>",)),
    ),
    (
        Family(
            "codellama-70b-instruct",
            "{{- range .Messages }}Source: {{ .Role }}\n\n {{ .Content }} <step> {{ end }}"
            "Source: assistant\nDestination: user\n\n ",
            ("Source:", "Destination:", "<step>"),
        ),
        Marks(
            "Source:user",
            "<step>Source:assistant",
            ("<step>Source:user",),
            end="<step>Source:assistantDestination:user",
        ),
    ),
)

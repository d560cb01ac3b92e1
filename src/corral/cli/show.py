"""`corral show`: a model's card, or one of its parts as it is."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from corral.cli.client import Client, Json
from corral.cli.render import columns, go_number
from corral.cli.usage import Command, Flag, UsageError

PARTS: Final = ("license", "modelfile", "parameters", "system", "template")
_BLOCK = re.compile(r"blk\.(\d+)\.")
_ARRAY_WIDTH: Final = 10
_HEAD_LINES: Final = 2

Row = Sequence[str]


def _show(words: tuple[str, ...], *, verbose: bool, **parts: bool) -> None:
    chosen = [name for name in PARTS if parts[name]]
    if len(chosen) > 1:
        raise UsageError("only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified")
    answer = Client().call("POST", "/api/show", {"model": words[0], "verbose": verbose})
    if not chosen:
        click.echo(card(answer, verbose=verbose), nl=False)
        return
    text = str(answer.get(chosen[0], ""))
    click.echo(text, nl=chosen[0] not in ("system", "template"))


def card(answer: Json, *, verbose: bool) -> str:
    """The sections of a model's card, each a heading and rows, a blank line after each."""
    sections: list[tuple[str, Sequence[Row]]] = [
        ("Model", _model(answer)),
        ("Capabilities", [(name,) for name in answer.get("capabilities") or ()]),
        ("Projector", _projector(answer.get("projector_info") or {})),
        ("Parameters", [line.split(None, 1) for line in answer.get("parameters", "").splitlines() if line.strip()]),
    ]
    if verbose:
        info: Mapping[str, Any] = answer.get("model_info") or {}
        sections += [
            ("Metadata", [(key, _metadata(info[key])) for key in sorted(info)]),
            (
                "Tensors",
                [
                    (item["name"], item["type"], f"[{' '.join(map(str, item['shape']))}]")
                    for item in sorted(answer.get("tensors") or (), key=_place)
                ],
            ),
        ]
    sections += [("System", _head(answer.get("system", ""))), ("License", _head(answer.get("license", "")))]
    return "".join(f"  {title}\n{columns(body, indent=4)}\n" for title, body in sections if body)


def _place(tensor: Json) -> tuple[int, str]:
    """The blocks in order, after what stands outside of them; each by name."""
    found = _BLOCK.match(tensor["name"])
    return int(found[1]) if found else -1, tensor["name"]


def _model(answer: Json) -> list[Row]:
    details, info = answer.get("details") or {}, answer.get("model_info") or {}
    arch = info.get("general.architecture") or details.get("family", "")
    rows: list[Row] = [("architecture", arch), ("parameters", details.get("parameter_size", ""))]
    for title, key in (("context length", "context_length"), ("embedding length", "embedding_length")):
        if value := info.get(f"{arch}.{key}"):
            rows.append((title, _plain(value)))
    rows.append(("quantization", details.get("quantization_level", "")))
    if requires := answer.get("requires"):
        rows.append(("requires", requires))
    return rows


def _projector(info: Mapping[str, Any]) -> list[Row]:
    if not info:
        return []
    from corral.store import human_count  # late: it takes a while, and few models have a projector

    def find(end: str) -> Any:
        return next((info[key] for key in info if key.endswith(end)), None)

    rows: list[Row] = [("architecture", str(info.get("general.architecture", "")))]
    if count := find("general.parameter_count"):
        rows.append(("parameters", human_count(int(count))))
    for title, end in (("embedding length", ".vision.embedding_length"), ("dimensions", ".vision.projection_dim")):
        if value := find(end):
            rows.append((title, _plain(value)))
    return rows


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _head(text: str) -> list[Row]:
    """The first lines that are not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = lines[:_HEAD_LINES] + (["..."] if len(lines) > _HEAD_LINES else [])
    return [(line,) for line in shown]


def _metadata(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return go_number(value)
        case str():
            return value
        case list():
            return _array(value)
        case None:
            return "<nil>"
        case _:
            return str(value)


def _array(items: Sequence[object]) -> str:
    """As many items as a narrow column takes, at least one, and how many more there are."""
    shown: list[str] = []
    width = 1
    for item in items:
        text = _metadata(item)
        width += len(text) + (2 if shown else 0)
        if shown and width > _ARRAY_WIDTH:
            break
        shown.append(text)
    rest = len(items) - len(shown)
    return f"[{' '.join(shown)}{f' ...+{rest} more' if rest else ''}]"


def _part(name: str) -> Flag:
    titles = {"license": "license", "modelfile": "Modelfile", "system": "system message"}
    return Flag(f"--{name}", is_flag=True, help=f"Show {titles.get(name, name)} of a model")


show = Command(
    "show",
    _show,
    usage="show MODEL",
    summary="Show information for a model",
    flags=[*map(_part, PARTS), Flag("-v", "--verbose", is_flag=True, help="Show detailed model information")],
    at_least=1,
    at_most=1,
)

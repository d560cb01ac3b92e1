"""From what the flags say to a plan. Raises UsageError for all that cannot be done, before anything is measured."""

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from corral.cli.bench.rounds import Load, Plan, Target
from corral.cli.bench.workloads import KINDS, Shape
from corral.cli.client import server_address
from corral.cli.usage import UsageError
from corral.core.errors import BadRequestError
from corral.core.settings import parse_host
from corral.core.units import duration_s

_NAMED: Final = re.compile(r"([^=:/?#]+)=(.+)")
_SEEDS: Final = 1_000_000
_MANY_SERVERS_ROUNDS: Final = 3
_Number = TypeVar("_Number", int, float)


def plan_of(
    model: str,
    *,
    url: Sequence[str],
    api: str,
    endpoint: str,
    workload: str,
    clients: str,
    rate: str,
    rounds: int | None,
    duration: str,
    timeout: str,
    pause: str,
    requests: int,
    warmup: int,
    seed: int | None,
    header: Sequence[str],
    extra_body: str,
    **shape: Any,
) -> Plan:
    targets = _targets(url, model, api)
    plan = Plan(
        targets=targets,
        loads=_loads(clients, rate),
        workload=workload,
        shape=_shape(workload, **shape),
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
        rounds=rounds or (_MANY_SERVERS_ROUNDS if len(targets) > 1 else 1),
        requests=requests,
        duration_s=_seconds("--duration", duration),
        warmup=warmup,
        timeout_s=_seconds("--timeout", timeout) or 300.0,
        pause_s=_seconds("--pause", pause),
        endpoint="generate" if endpoint == "generate" else "chat",
        headers=_headers(header),
        extra_body=_object("--extra-body", extra_body) if extra_body else {},
    )
    _check(plan)
    return plan


def _check(plan: "Plan") -> None:
    """Raises UsageError where flags do not go together."""
    if plan.loads[0].rate and not plan.kind.is_open:
        raise UsageError(f"--rate is not for the workload '{plan.workload}', whose requests wait for each other; use --clients")
    if plan.workload == "turns" and (plan.requests or plan.endpoint == "generate"):
        raise UsageError("the workload 'turns' has --conversations times --turns requests, to the chat endpoint")
    if plan.endpoint == "generate" and not plan.kind.generates:
        raise UsageError(f"--endpoint is not for the workload '{plan.workload}'")


def _targets(urls: Sequence[str], model: str, api: str) -> list[Target]:
    targets = []
    for text in urls or (server_address().url,):
        name, address = found.groups() if (found := _NAMED.fullmatch(text)) else ("", text)
        place, _, own_model = address.partition("#")
        parsed = parse_host(place)
        if parsed.scheme not in ("http", "https"):
            raise UsageError(f'invalid value for --url: "{text}" is neither http nor https')
        known = {"ollama": "ollama", "openai": "openai"}.get(api)
        shown = f"{parsed.host}:{parsed.port}"
        targets.append(Target(name or shown, server_address({"OLLAMA_HOST": place}).url, own_model or model, known))  # type: ignore[arg-type]
    if len({target.name for target in targets}) < len(targets):
        raise UsageError("two servers of --url have the same name; give them names: --url a=http://… --url b=http://…")
    return targets


def _loads(clients: str, rate: str) -> list[Load]:
    if clients and rate:
        raise UsageError("--clients is for a closed loop and --rate for an open one; give one of them")
    if rate:
        return [Load(rate=value) for value in _numbers("--rate", rate, float)]
    return [Load(clients=value) for value in _numbers("--clients", clients or "1", int)]


def _shape(
    workload: str,
    *,
    max_tokens: int | None,
    prompt_tokens: str,
    temperature: float | None,
    schema: str,
    texts: int | None,
    seen: str | None,
    conversations: int | None,
    turns: int | None,
) -> Shape:
    """The workload's own shape, but for what flags say."""
    given: dict[str, Any] = {
        "max_tokens": max_tokens,
        "prompt_tokens": tuple(_numbers("--prompt-tokens", prompt_tokens, int)) if prompt_tokens else None,
        "temperature": temperature,
        "schema": _object("--schema", _text(schema)) if schema else None,
        "texts": texts,
        "seen": seen,
        "conversations": conversations,
        "turns": turns,
    }
    said = {name: value for name, value in given.items() if value is not None}
    _check_shape(workload, said)
    return replace(KINDS[workload].shape, **said)


def _check_shape(workload: str, said: Mapping[str, Any]) -> None:
    kind = KINDS[workload]
    uses = {*kind.uses, *(("max_tokens", "temperature") if kind.generates else ())}
    for name in said:
        if name not in uses:
            raise UsageError(f"--{name.replace('_', '-')} is not for the workload '{workload}'")
    if len(said.get("prompt_tokens", ())) > 1 and not kind.mixes_lengths:
        raise UsageError(f"--prompt-tokens takes one number for the workload '{workload}'")


def _numbers(flag: str, text: str, kind: Callable[[str], _Number]) -> list[_Number]:
    """Numbers above zero with commas between them, each once."""
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < float("inf") for value in values) or len(set(values)) < len(values):
        raise UsageError(f'invalid argument "{text}" for "{flag}" flag: must be numbers above zero, such as 1,4,16')
    return values


def _seconds(flag: str, text: str) -> float:
    try:
        value = float(text) if text.replace(".", "", 1).isdecimal() else duration_s(text) if text else 0.0
    except BadRequestError as exc:
        raise UsageError(f'invalid argument "{text}" for "{flag}" flag: {exc}') from exc
    if value < 0:
        raise UsageError(f'invalid argument "{text}" for "{flag}" flag: must not be negative')
    return value


def _headers(lines: Sequence[str]) -> Mapping[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or not value.isprintable():
            raise UsageError(f'invalid argument "{line}" for "--header" flag: must be NAME: VALUE')
        headers[name] = value.strip()
    return headers


def _object(flag: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise UsageError(f'invalid argument "{text[:80]}" for "{flag}" flag: {exc}') from exc
    if not isinstance(value, dict):
        raise UsageError(f'invalid argument "{text[:80]}" for "{flag}" flag: must be a JSON object')
    return value


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeError) as exc:
        raise UsageError(f"cannot read {path}: {exc}") from exc


def writable(flag: str, path: str) -> Path | None:
    """A file that can be written later: an hour of measuring should not end in a wrong folder. None for no path."""
    if not path:
        return None
    file = Path(path)
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UsageError(f'invalid argument "{path}" for "{flag}" flag: no file can be written there')
    return file

"""The results as JSON, for programs: the figures under the names that vLLM's benchmark gives them."""

import os
import platform
from collections.abc import Mapping
from datetime import datetime

from corral import __version__
from corral.cli.bench.dialects import OllamaDialect
from corral.cli.bench.results import Cell, Comparison, Results
from corral.cli.bench.rounds import Load, Plan, Run
from corral.cli.bench.workloads import Json
from corral.core.units import rfc3339


def document(run: Run, found: Results, now: datetime) -> Json:
    plan = run.plan
    return {
        "date": rfc3339(now),
        "corral": __version__,
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "workload": _workload(plan),
        "seed": plan.seed,
        "rounds": plan.rounds,
        "requests": plan.requests,
        "duration_s": plan.duration_s,
        "warmup": plan.warmup,
        "timeout_s": plan.timeout_s,
        "extra_body": plan.extra_body,
        "servers": [
            {
                "name": server.name,
                "url": server.url,
                "model": server.model,
                "api": "ollama" if isinstance(server.dialect, OllamaDialect) else "openai",
                "endpoint": plan.endpoint,
            }
            for server in run.servers
        ],
        "results": [_cell(cell) for cell in found.cells],
        "ratios": [_comparison(comparison) for comparison in found.comparisons],
    }


def _workload(plan: Plan) -> Json:
    """What can be set of it, as it was."""
    names = [*(("max_tokens", "temperature") if plan.kind.generates else ()), *plan.kind.uses]
    return {"name": plan.workload, **{name: getattr(plan.shape, name) for name in names}}


def _load(load: Load) -> Json:
    return {"request_rate": load.rate} if load.rate else {"max_concurrency": load.clients}


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


def _cell(cell: Cell) -> Json:
    return {
        "server": cell.target,
        **_load(cell.load),
        **_rounded(cell.all),
        "tokens_counted_by": "pieces" if cell.counts_pieces else "server",
        "answers_without_text": cell.silent,
        "errors": [{"kind": kind, "count": count, "first": text} for kind, count, text in cell.failures],
        "client_late_p99_ms": round(cell.late_ms, 3),
        "rounds": [_rounded(figures) for figures in cell.rounds],
        "groups": {name: _rounded(figures) for name, figures in cell.groups.items()},
    }


def _comparison(comparison: Comparison) -> Json:
    return {
        "of": comparison.of,
        "to": comparison.to,
        **_load(comparison.load),
        **{
            name: {"median": round(middle, 4), "min": round(least, 4), "max": round(greatest, 4)}
            for name, (middle, least, greatest) in comparison.ratios.items()
        },
    }

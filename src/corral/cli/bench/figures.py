"""Numbers of what came back. Pure: samples in, figures out.

Figures have the names that vLLM's benchmark gives them: TTFT (time to first token), TPOT (time per output token after the
first), ITL (inter-token latency, the gaps between pieces of a stream), E2EL (end-to-end latency). Milliseconds and seconds, as
the name says. A figure that nothing was measured for is not there. Failed requests count as failed, and in nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Final, TypeAlias

from corral.cli.bench.sending import Sample
from corral.core.units import NS_PER_S

Figures: TypeAlias = dict[str, float]
_NS_PER_MS: Final = 1_000_000
_PERCENTILES: Final = (95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie, straight between the two nearest ones, as numpy and vLLM have it.

    >>> percentile([1, 2, 3, 4], 50), percentile([10, 20], 99), percentile([7], 95)
    (2.5, 19.9, 7)
    """
    ordered = sorted(values)
    below, share = divmod((len(ordered) - 1) * percent / 100, 1)
    low = ordered[int(below)]
    return low + (ordered[int(below) + 1] - low) * share if share else low


def figures(samples: Sequence[Sample], duration_s: float) -> Figures:
    """The figures of all requests of one measurement, or of several with their durations added up."""
    good = [sample for sample in samples if not sample.failure]
    found: Figures = {"completed": len(good), "failed": len(samples) - len(good), "duration": duration_s}
    found |= _totals(good)
    if duration_s > 0:
        found |= _rates(found, good, duration_s)
    for name, values in _latencies_ms(good).items():
        found |= _spread(name, values)
    if rates := [rate for sample in good if (rate := _stream_rate(sample))]:
        found |= {"mean_stream_throughput": fmean(rates), "median_stream_throughput": median(rates)}
    if answers := [sample.is_json for sample in good if sample.is_json is not None]:
        found["valid_json"] = sum(answers)
    return found


def _totals(good: Sequence[Sample]) -> Figures:
    found: Figures = {"total_output_tokens": sum(sample.tokens for sample in good)}
    prompts = _told(good, lambda sample: sample.prompt_tokens)
    if prompts:
        found |= {"total_input_tokens": sum(prompts), "mean_input_tokens": fmean(prompts)}
    if cached := _told(good, lambda sample: sample.cached_tokens):
        found["total_cached_tokens"] = sum(cached)
        if prompts and sum(prompts):
            found["cached_percent"] = 100 * sum(cached) / sum(prompts)
    if texts := sum(sample.texts for sample in good):
        found["total_texts"] = texts
        del found["total_output_tokens"]
    elif good:
        found["mean_output_tokens"] = found["total_output_tokens"] / len(good)
    return found


def _told(good: Iterable[Sample], field: Callable[[Sample], int | None]) -> list[int]:
    return [value for sample in good if (value := field(sample)) is not None]


def _rates(found: Figures, good: Sequence[Sample], duration_s: float) -> Figures:
    rates: Figures = {"request_throughput": len(good) / duration_s}
    if "total_texts" in found:
        rates["text_throughput"] = found["total_texts"] / duration_s
    if "total_output_tokens" in found:
        rates["output_throughput"] = found["total_output_tokens"] / duration_s
    if "total_input_tokens" in found:
        total = found["total_input_tokens"] + found.get("total_output_tokens", 0)
        rates["total_token_throughput"] = total / duration_s
    return rates


def _latencies_ms(good: Sequence[Sample]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {"ttft": [], "tpot": [], "itl": [], "e2el": []}
    for sample in good:
        found["e2el"].append((sample.end_ns - sample.sent_ns) / _NS_PER_MS)
        if sample.pieces_ns:
            found["ttft"].append((sample.pieces_ns[0] - sample.sent_ns) / _NS_PER_MS)
        if rate := _stream_rate(sample):
            found["tpot"].append(1000 / rate)
        found["itl"] += [(after - before) / _NS_PER_MS for before, after in pairwise(sample.pieces_ns)]
    return found


def _stream_rate(sample: Sample) -> float:
    """Tokens a second after the first one; 0 where there are too few to tell."""
    if not sample.pieces_ns or sample.tokens < 2 or sample.end_ns <= sample.pieces_ns[0]:
        return 0.0
    return (sample.tokens - 1) * NS_PER_S / (sample.end_ns - sample.pieces_ns[0])


def _spread(name: str, values: Sequence[float]) -> Figures:
    if not values:
        return {}
    found = {f"mean_{name}_ms": fmean(values), f"median_{name}_ms": median(values), f"max_{name}_ms": max(values)}
    return found | {f"p{percent}_{name}_ms": percentile(values, percent) for percent in _PERCENTILES}


def all_first_ms(samples: Iterable[Sample]) -> float | None:
    """From the first request until every client of a closed loop has a first token; None where one of them got none."""
    wave = [sample for sample in samples if sample.client >= 0 and sample.nth == 0]
    if not wave or any(sample.failure or not sample.pieces_ns for sample in wave):
        return None
    return (max(sample.pieces_ns[0] for sample in wave) - min(sample.sent_ns for sample in wave)) / _NS_PER_MS


def by_group(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of each group that requests were drawn in: by size where groups are sizes, else as they were first sent."""
    found: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.sent_ns):
        if sample.group:
            found.setdefault(sample.group, []).append(sample)
    return dict(sorted(found.items(), key=lambda item: _size(item[0])))


def _size(group: str) -> int:
    word = group.partition(" ")[0]
    return int(word) if word.isdecimal() else 0


def failures(samples: Iterable[Sample]) -> list[tuple[str, int, str]]:
    """Each kind of failure, how often it was, and what was said the first time; the most frequent one first."""
    found = [sample.failure for sample in samples if sample.failure]
    first = {failure.kind: failure.text for failure in reversed(found)}
    return [(kind, count, first[kind]) for kind, count in Counter(failure.kind for failure in found).most_common()]


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, tuple[float, float, float]]:
    """Median, least and greatest of ours by theirs, of rounds that belong together, for each figure that all of them have."""
    pairs = list(zip(ours, theirs, strict=True))
    names = [name for name in (ours[0] if ours else ()) if all(mine.get(name) and other.get(name) for mine, other in pairs)]
    by_name = {name: [mine[name] / other[name] for mine, other in pairs] for name in names}
    return {name: (median(values), min(values), max(values)) for name, values in by_name.items()}

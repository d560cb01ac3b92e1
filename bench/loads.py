"""The lines of the table that are loads over HTTP: what is sent, how many at once, which figure counts, and what is wanted."""

from typing import Final

from contest import CEILING, Figure, HttpRow, slots_name
from corral.cli.bench.workloads import LONG_PROMPT, STREAMS
from subjects import EMBEDDER
from verdicts import Line, at_least, at_most

_S: Final = 0.001  # a millisecond
_EIGHT, _ONE, _SIXTEEN = slots_name(8), slots_name(1), slots_name(16)
_ALL_FIRST: Final = Figure("all_first_token_ms", scale=_S)
_RATE: Final = Figure("output_throughput")  # of whole requests, from sending them on: what a grammar or a guess saves counts

_SEEN_ONCE: Final = HttpRow(
    name="seen-once",
    lines=(
        Line(
            "seen-once",
            "8 clients, common 1,300-token prompt seen once: all have a first token",
            "s",
            (at_most(1 / 20, _EIGHT), at_most(1 / 4, _ONE)),
        ),
    ),
    figures=(_ALL_FIRST,),
    workload="prefix",
    clients=8,
    shape={"seen": "once"},
)
_NEVER_SEEN: Final = HttpRow(
    name="never-seen",
    lines=(Line("never-seen", "the same, prompt never seen", "s", (at_most(1 / 5, _EIGHT),)),),
    figures=(_ALL_FIRST,),
    workload="prefix",
    clients=8,
    shape={"seen": "never"},
)
_CONVERSATIONS: Final = HttpRow(
    name="conversations",
    lines=(
        Line(
            "conversations",
            "50 conversations of 6 turns, random order, 8 clients: median first token",
            "s",
            (at_most(1 / 3, _EIGHT, _ONE),),
        ),
    ),
    figures=(Figure("median_ttft_ms", scale=_S),),
    workload="turns",
    clients=8,
    shape={"conversations": 50, "turns": 6},
    quick={"conversations": 24, "turns": 3},
    warm={"conversations": 8, "turns": 1, "max_tokens": 8},
    most_rounds=2,
)
_ONE_STREAM: Final = HttpRow(
    name="one-stream",
    lines=(Line("one-stream", "1 stream, free text", "tok/s", (at_least(1.0, _EIGHT, _ONE), at_least(0.97, CEILING))),),
    figures=(Figure("mean_stream_throughput"),),
    workload="chat",
    clients=1,
    has_ceiling=True,
)
_STREAMS: Final = HttpRow(
    name="streams",
    lines=(Line("streams", "16 streams, free text", "tok/s", (at_least(1.0, _EIGHT, _SIXTEEN), at_least(2.0, _ONE))),),
    figures=(_RATE,),
    workload="chat",
    clients=16,
    slots=(8, 1, 16),
    requests=32,
    quick_requests=16,
)
_EDIT: Final = HttpRow(
    name="edit",
    lines=(Line("edit", "copy and edit work, 1 stream", "tok/s", (at_least(1.5, _EIGHT, _ONE),)),),
    figures=(_RATE,),
    workload="edit",
    clients=1,
    quick_requests=2,
)
_JSON: Final = HttpRow(
    name="json",
    lines=(Line("json", "JSON by schema, 1 stream", "tok/s", (at_least(1.5, _EIGHT, _ONE),)),),
    figures=(_RATE,),
    workload="json",
    clients=1,
    requests=8,
    quick_requests=4,
)
_LONG: Final = HttpRow(
    name="long",
    lines=(
        Line("long-gap", "3,000-token prompt beside 4 streams: their longest gap", "s", (at_most(1 / 3, _EIGHT),)),
        Line("long-first", "that prompt's own first token", "s", (at_most(1 / 2, _ONE),)),
    ),
    figures=(
        Figure("max_itl_ms", group=STREAMS, scale=_S),
        Figure("median_ttft_ms", group=LONG_PROMPT, scale=_S),
    ),
    workload="long",
    clients=4,
    requests=2,
    quick_requests=1,
)


_EMBED: Final = HttpRow(
    name="embed",
    lines=(Line("embed", "256 texts in one request for embeddings", "texts/s", (at_least(1.0, _EIGHT, _SIXTEEN),)),),
    figures=(Figure("text_throughput"),),
    workload="embed",
    clients=1,
    slots=(8, 16),
    shape={"texts": 256},
    warm={},
    subject=EMBEDDER,
)

HTTP_ROWS: Final = (_SEEN_ONCE, _NEVER_SEEN, _CONVERSATIONS, _ONE_STREAM, _STREAMS, _EDIT, _JSON, _LONG, _EMBED)

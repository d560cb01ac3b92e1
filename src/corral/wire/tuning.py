"""What crosses the wire when a model is tuned; shapes only. Not part of Ollama's API."""

from typing import Annotated

import msgspec
from msgspec import Meta

from corral.core.tuning import Machine, Tuned


class Speeds(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine reached in a round, or how many times as much as the default settings did."""

    prompt: Annotated[float, Meta(description="tokens a second of reading one long prompt")]
    alone: Annotated[float, Meta(description="tokens a second of one answer, behind that prompt")]
    together: Annotated[float, Meta(description="tokens a second of all answers to several prompts of their own")]
    forks: Annotated[float, Meta(description="the same behind the one long prompt, from the requests to the last token")]


class Measured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to set the engine up, and what came of it."""

    name: str
    settings: Tuned
    is_lossy: Annotated[bool, Meta(description="it changes the model's answers")] = False
    speeds: Annotated[Speeds | None, Meta(description="medians of all rounds; none where it could not be measured")] = None
    ratios: Annotated[Speeds | None, Meta(description="to the default settings in the same round; medians")] = None
    score: Annotated[float, Meta(description="the ratios in one, by their geometric mean; the median of the rounds")] = 0.0
    least: float = 0.0
    greatest: float = 0.0
    verdict: str = ""


class TuneLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of each engine in each round."""

    rounds: int
    prompt_tokens: int
    own_prompt_tokens: Annotated[int, Meta(description="of each of those that are answered together")]
    answer_tokens: int
    streams: int


class TuneReport(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    machine: Machine
    load: TuneLoad
    results: Annotated[list[Measured], Meta(description="the default settings first")]
    chosen: Annotated[Tuned, Meta(description="nothing: the default settings")]
    gain: Annotated[float, Meta(description="how many times as fast the choice is")] = 1.0
    why: str
    is_stored: bool
    is_disturbed: Annotated[bool, Meta(description="other programs used the machine meanwhile")] = False
    elapsed_s: float


class TuneResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the stream. The last one says "success", with the report where there was something to measure."""

    status: str
    total: Annotated[int, Meta(description="measurements in all")] = 0
    completed: int = 0
    report: TuneReport | None = None
